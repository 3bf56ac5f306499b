"""``POST /``: search with an image that a visitor chooses, drops or pastes."""

from __future__ import annotations

import secrets
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from clerestory.apps.tagging import embed_and_tag
from clerestory.core.codec import Tags
from clerestory.core.errors import CapabilityError, UploadError
from clerestory.data.images import decode_beside_requests
from clerestory.store.operations.prediction import RequestKind
from clerestory.web.admission import admit
from clerestory.web.images import SHORT_LIVED, image_response, thumbnail
from clerestory.web.loaded_model import LoadedModel
from clerestory.web.places import occupied
from clerestory.web.query_images import QueryImage
from clerestory.web.request_trace import request_trace
from clerestory.web.security import RequestRejected
from clerestory.web.state import server_state
from clerestory.web.uploads import FormPart, file_name, form_parts
from clerestory.web.views import release_header, url

MAX_FIELD = 300
FIELDS = {"style", "q", "like", "image", "under", "year", "orientation"}


async def upload(request: Request) -> Response:
    """``POST /``: search with an uploaded image; redirects to its results."""
    server, trace = server_state(request), request_trace(request)
    loaded = server.follower.loaded
    if loaded.embedder is None or (loaded.searcher is None and server.library is None):
        raise CapabilityError("this server has no pictures to search", "start it with --data and a model that searches")
    chosen: FormPart | None = None
    fields: dict[str, list[str]] = {}  # of the search that the image is added to
    async for part in form_parts(request):
        if part.field in FIELDS and part.file is None:
            fields.setdefault(part.field, []).append(part.text[:MAX_FIELD])
        elif part.field == "image" and part.file and chosen is None:
            chosen = part
    if chosen is None:
        raise RequestRejected("no picture was chosen", "choose a picture", kind="invalid_request")
    if chosen.error:
        raise chosen.error
    loaded = admit(server, trace, RequestKind.SEARCH, request.headers.get("clerestory-user", ""))
    with occupied(server.queue, request.scope) as place:
        image = await place.wait(server.queue.submit(_query_image, loaded, chosen))
    trace.describe(images=1, inputs=1, facts=Tags(by="image"))
    server.query_images.put(image)
    headers = release_header(loaded.ref)
    if server.library is not None:
        fields["image"] = [image.id, *fields.get("image", [])]
        return RedirectResponse(f"/?{urlencode(fields, doseq=True)}", status_code=303, headers=headers)
    address = url("/", image=image.id, style="".join(fields.get("style", [])[:1]))
    return RedirectResponse(address, status_code=303, headers=headers)


async def preview(request: Request) -> Response:
    """``GET /query-images/{image}.webp``: the thumbnail of a query image."""
    image = server_state(request).query_images.get(request.path_params["image"])
    return image_response(image.preview, {"cache-control": SHORT_LIVED})


def _query_image(loaded: LoadedModel, part: FormPart) -> QueryImage:
    """Decode and embed an image; runs in the model's thread."""
    assert loaded.embedder is not None
    if not part.content:
        raise UploadError("the file is empty", "choose another file")
    image = decode_beside_requests(part.content)
    (row,), (tags,) = embed_and_tag(loaded.embedder)([image])
    images = loaded.reference.images
    unlike = images is not None and images.unlike([image])[0]
    name = file_name(part.file or "")
    return QueryImage(secrets.token_urlsafe(16), name, thumbnail(image), row, loaded.model.digest, unlike, tags or ())
