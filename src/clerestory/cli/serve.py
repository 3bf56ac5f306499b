"""``clerestory serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from clerestory.apps.datasets import load_dataset
from clerestory.apps.folder_index.source import empty_folder, image_folder
from clerestory.apps.loading import check_reference, privacy_notice
from clerestory.apps.right_model import choose_model, data_kinds
from clerestory.apps.starter import DEFAULT_NAME, live_or_starter
from clerestory.cli.help_format import MODEL_FORMS
from clerestory.cli.output import PLAIN, Common
from clerestory.cli.settings import read_settings, settings_table
from clerestory.cli.usage import is_folder_argument, quote_path
from clerestory.core.codec import encode
from clerestory.core.errors import InputError, NotFound, not_found
from clerestory.core.imports import paused_garbage_collection
from clerestory.core.sample import Dataset
from clerestory.models.adapters.http_client import is_loopback
from clerestory.models.starter import PHOTOS
from clerestory.store import Store, open_store
from clerestory.web.access_control import AccessControl
from clerestory.web.serve_config import ServeConfig

NO_IMAGES = "none"  # to serve the API without a search


def serve_(
    name: str = "icons",
    /,
    *,
    data: str = "icons",
    model: Annotated[str, Parameter(help=f"Serve this model instead: a {MODEL_FORMS}.")] = "",
    host: str = "127.0.0.1",
    port: int = 8000,
    config: Path | None = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", negative=())] = (),
    settings: Annotated[bool, Parameter(negative=())] = False,
    require_keys: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> None:
    """Open the pages and the HTTP API on this computer; Ctrl-C stops them.

    Args:
        name: The model name whose live release is served.
        data: The images to search: a folder, which is indexed in the background, the name of a dataset, or none.
        host: The address to listen on; the default can only be reached from this computer.
        port: The port to listen on.
        config: A TOML file with settings, such as serve.toml; no file is read unless it is named.
        set_: Any setting by its name, such as queue.max_requests=500; may be given several times.
        require_keys: Demand an API key of every request, as another host than this computer does anyway; make one with:
            clerestory api-key create.
        settings: Only list every setting with its default, range and meaning.
    """
    if settings:
        common.out.result(*settings_table(ServeConfig))
        return
    chosen = read_settings(ServeConfig, config, {"access.keys": "required"} if require_keys else {}, set_)
    store = open_store(common.home)
    access = AccessControl(chosen.access, store)
    access.check_start(host, is_loopback(host))
    is_chosen = not model and name == DEFAULT_NAME  # by us, not by the user
    name, model = _model_to_serve(store, name, model, common)
    with paused_garbage_collection():
        folder, dataset = _images_to_search(store, data, common)
        if is_chosen and (folder is not None or dataset is not None):
            model = _fitting_model(store, model, folder, dataset, common)
        if notice := privacy_notice(model or f"{name}@live", store):
            common.out.write_line(f"notice: {notice}")
        from clerestory.web import create_app, run  # here, because it takes long to import
    run(
        create_app(store, dataset, name, model, folder, common.out, chosen),
        host=host,
        port=port,
        on_listening=lambda url: _announce(url, chosen, access, common),
        config=chosen.http,
    )


def _announce(url: str, config: ServeConfig, access: AccessControl, common: Common) -> None:
    """Print the settings in effect, and where the server listens."""
    tables = encode(config)
    for channel in tables["notify"]:
        common.out.write_line(f"  notify: {channel['name']} ({channel['kind']})")
    for table, values in tables.items():
        if not isinstance(values, dict):
            continue
        given = ", ".join(f"{name} {value}" for name, value in values.items())
        common.out.write_line(f"{table:>8}: {given}")
    common.out.write_line(access.start_line())
    common.out.write_line(f"open {url}  (Ctrl-C stops the server)")
    if common.json:
        common.out.result({"url": url, "settings": tables})


def _images_to_search(store: Store, data: str, common: Common) -> tuple[Path | None, Dataset | None]:
    """A folder or a dataset, at most one of the two."""
    if data == NO_IMAGES:
        return None, None
    if folder := image_folder(store, data) or empty_folder(store, data):
        return folder, None
    return None, load_dataset(store, data, common.out)


def _fitting_model(store: Store, model: str, folder: Path | None, dataset: Dataset | None, common: Common) -> str:
    """The model to serve where the user has named none; a live release is followed all the same.

    Args:
        store: the releases.
        model: the included model to serve instead of a release; empty if a release is followed.
        folder, dataset: the images, one of the two.
        common: the options of the command.
    """
    choice = choose_model(store, data_kinds(store, folder, dataset))
    if choice.warning:
        common.out.write_line(f"warning: {choice.warning}")
    if model:
        if choice.notice:
            common.out.write_line(f"notice: {choice.notice}")
        return choice.ref
    if choice.ref == PHOTOS and not choice.warning:
        common.out.write_line(
            "notice: these are photographs, which the included model knows better: add --model photos"
        )
    return ""


def _model_to_serve(store: Store, name: str, model: str, common: Common) -> tuple[str, str]:
    """The model name to follow, and the reference of the model to serve instead; what does not exist is named at once.

    Raises:
        NotFound: the model name has no release, or the model does not exist; carries the closest names.
    """
    if model.endswith("@live"):
        name, model = model.removesuffix("@live"), ""
    if model:
        check_reference(store, model)
        return name, model
    ref, replaced = live_or_starter(store, f"{name}@live")
    if replaced:
        return name, ref
    names = {release.name for release in store.releases()}
    if name not in names:
        if is_folder_argument(name, alone=False):
            raise InputError(
                f"{name} is a folder, and NAME is that of a model; the folder of images is given with --data",
                f"run: clerestory serve --data {quote_path(name)}",
            )
        fix = "" if names else "there is no release yet; serve an included model with: clerestory serve --model starter"
        raise not_found("model", name, names, fix)
    if store.alias(name, "live") is None:
        try:
            store.resolve(ref)
        except NotFound as error:  # the pages of its releases answer, and show why none is live
            common.out.write_line(
                f"notice: {error.message}, so only the release pages are available; to make one live, run: {error.fix}"
            )
    return name, ""
