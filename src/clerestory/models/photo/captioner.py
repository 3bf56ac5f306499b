"""The photo encoder with a caption decoder of the user's own: a ``Captioner``, too."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from PIL import Image

from clerestory.core.codec import Fact
from clerestory.core.errors import IntegrityError
from clerestory.models.folder_check import DOWNLOAD_AGAIN, display_name
from clerestory.models.loading import load_weights
from clerestory.models.photo.caption_decoder import PhotoCaptionDecoder, draft_captions
from clerestory.models.photo.caption_words import CaptionWords
from clerestory.models.photo.encoder import CAPTION_WORDS, DECODER, NETWORK, SPACE, TAGS, PhotoEncoder, PhotoFeatures
from clerestory.models.protocols import CaptionCandidate, check_caption_count


class PhotoCaptioner(PhotoEncoder):
    """The encoder of a model folder that has a caption decoder; thread-safe."""

    @cached_property
    def words(self) -> CaptionWords:
        """The vocabulary of the decoder.

        Raises:
            IntegrityError: it is missing in the settings, or damaged.
        """
        try:
            return CaptionWords.from_settings(self.settings[CAPTION_WORDS])
        except (KeyError, TypeError, ValueError) as error:
            message = f"the vocabulary of {display_name(self.folder)} cannot be read"
            raise IntegrityError(message, DOWNLOAD_AGAIN) from error

    @cached_property
    def _decoder(self) -> PhotoCaptionDecoder:
        network = PhotoCaptionDecoder(len(self.words), self.space.width - 1)
        names = {DECODER + name: name for name in network.state_dict()}
        return load_weights(network, self.folder, (NETWORK, SPACE, TAGS), names)

    def caption_images(self, images: Sequence[Image.Image], n: int = 3) -> list[list[CaptionCandidate]]:
        """Up to ``n`` distinct captions for each photograph, best first.

        Raises:
            InputError: ``n`` is less than 1.
        """
        check_caption_count(n)
        return self.draft_captions(self.features(images), n) if images else []

    def draft_captions(self, found: PhotoFeatures, n: int) -> list[list[CaptionCandidate]]:
        """Up to ``n`` captions for each photograph by its features, best first."""
        if not len(found.logits):
            return []
        with self._lock:
            decoder = self._decoder
        rows_ND = self.embed_features(found)
        return [draft_captions(decoder, self.words, self.embed_texts, row_D[1:], n) for row_D in rows_ND]

    def facts(self) -> dict[str, Fact]:
        """Those of the encoder, and the vocabulary size of the decoder."""
        return {**super().facts(), "vocab_size": len(self.words)}
