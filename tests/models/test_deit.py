"""The original DeiT checkpoints, from a server on loopback that holds files in their layout."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import timm
import torch
from torch import nn
from torchvision import transforms

from vitlet.data.preprocess import preprocess
from vitlet.errors import HubUnreachable, ModelNotFound, ModelUnreadable, NotWritable
from vitlet.models import deit, download
from vitlet.models.deit import FILES, deit_architecture, deit_image_spec
from vitlet.models.reference import load
from vitlet.records import Progress

TOLERANCE = 1e-4
TINY, DISTILLED = "deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"


def _difference(theirs: nn.Module, ours: nn.Module, size: int) -> float:
    images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return float((theirs(images) - ours(images)).abs().max())


@pytest.fixture
def server(hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lively: Callable[..., nn.Module]) -> Any:
    """Meta's file server with two DeiT-Ti whose weights, and so hashes, are other ones."""
    hub.files["plain"] = {}
    hub.models = {}
    names = dict(FILES)
    for name in (TINY, DISTILLED):
        model = lively(timm.create_model(name))
        stream = io.BytesIO()
        torch.save({"model": model.state_dict()}, stream)
        content = stream.getvalue()
        names[name] = f"{name}-{hashlib.sha256(content).hexdigest()[:8]}.pth"
        hub.files["plain"][names[name]] = content
        hub.models[name] = model
    monkeypatch.setattr(deit, "BASE_URL", f"{hub.url}/plain/")
    monkeypatch.setattr(deit, "FILES", names)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    hub.folder = tmp_path / "hub" / "checkpoints"
    return hub


def test_the_checkpoints_are_the_published_ones() -> None:
    """timm's registry names the same files, at the same place."""
    for name, filename in FILES.items():
        assert timm.models.get_pretrained_cfg(name).url == deit.BASE_URL + filename


@pytest.mark.parametrize("name", FILES)
def test_the_architectures_are_timms(name: str) -> None:
    from vitlet.models.timm_vit import describe

    with torch.device("meta"):
        assert deit_architecture(name) == describe(timm.create_model(name))


@pytest.mark.parametrize(("size", "resize"), [(224, 256), (384, 438)])
def test_preprocessing_is_the_repositorys(size: int, resize: int, pictures: list[Any]) -> None:
    steps = [transforms.Resize(int(256 / 224 * size), interpolation=3), transforms.CenterCrop(size)]
    steps += [transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    spec = deit_image_spec(size)
    assert spec.resize == resize
    for picture in pictures:
        assert (preprocess(picture, spec) == transforms.Compose(steps)(picture).numpy()).all()


def test_a_checkpoint_is_downloaded_once_with_progress(server: Any) -> None:
    seen: list[Progress] = []
    loaded = load(f"deit:{TINY}", progress=seen.append)
    assert _difference(server.models[TINY], loaded.module, 224) <= TOLERANCE
    size = len(server.files["plain"][deit.FILES[TINY]])
    downloads = [step for step in seen if step.stage == "download"]
    assert (downloads[-1].detail, downloads[-1].done, downloads[-1].total) == (
        deit.FILES[TINY].removesuffix(".pth"),
        size,
        size,
    )
    assert (loaded.reference, loaded.library) == (f"deit:{TINY}", "deit")
    assert loaded.labels[1] == "goldfish, Carassius auratus"
    assert [path.name for path in server.folder.iterdir()] == [deit.FILES[TINY]]
    load(f"deit:{TINY}")
    assert len(server.requests) == 1


def test_distilled_at_384_with_positions_interpolated_as_deit_does(server: Any) -> None:
    theirs = server.models[DISTILLED]
    loaded = load(f"deit:{DISTILLED}", image_size=384)
    state = dict(theirs.state_dict())
    grid = state["pos_embed"][:, 2:].reshape(1, 14, 14, 192).permute(0, 3, 1, 2)
    larger = nn.functional.interpolate(grid, size=(24, 24), mode="bicubic", align_corners=False)
    state["pos_embed"] = torch.cat([state["pos_embed"][:, :2], larger.flatten(2).transpose(1, 2)], dim=1)
    at_384 = timm.create_model(DISTILLED, img_size=384).eval()
    at_384.load_state_dict(state)
    assert _difference(at_384, loaded.module, 384) <= TOLERANCE
    assert (loaded.image_spec.height, loaded.image_spec.resize) == (384, 438)


def test_random_weights_are_timms_and_need_no_server() -> None:
    loaded = load(f"deit:{TINY}", random_weights=True, seed=5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        theirs = timm.create_model(TINY).eval()
    assert _difference(theirs, loaded.module, 224) <= TOLERANCE
    assert (loaded.library, loaded.image_spec.resize, loaded.random_weights) == ("deit", 256, True)


def test_an_unknown_name_is_answered_with_close_ones() -> None:
    with pytest.raises(ModelNotFound, match=r"did you mean deit_tiny_patch16_224\?"):
        load("deit:deit_tinny_patch16_224")
    with pytest.raises(ModelNotFound, match="there are deit_tiny_patch16_224, deit_small"):
        load("deit:resnet50")


def test_a_file_with_another_hash_is_refused_and_not_kept(server: Any) -> None:
    name = deit.FILES[TINY]
    whole = server.files["plain"][name]
    server.files["plain"][name] = whole[:-1000]
    with pytest.raises(ModelUnreadable, match="SHA-256 differs"):
        load(f"deit:{TINY}")
    assert not list(server.folder.iterdir())
    server.files["plain"][name] = whole
    (server.folder / name).write_bytes(whole[:5000])  # left by an older program that was interrupted
    load(f"deit:{TINY}")
    assert (server.folder / name).read_bytes() == whole


def test_a_connection_that_breaks_off_leaves_nothing(server: Any) -> None:
    server.cut.add(deit.FILES[TINY])
    with pytest.raises(HubUnreachable, match="cannot be downloaded"):
        load(f"deit:{TINY}")
    assert not list(server.folder.iterdir())


def test_a_server_that_is_down_or_has_not_the_file(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files["plain"].clear()
    with pytest.raises(HubUnreachable, match="answers with error 404"):
        load(f"deit:{TINY}")
    server.down = True
    with pytest.raises(HubUnreachable, match="answers with error 503"):
        load(f"deit:{TINY}")
    monkeypatch.setattr(deit, "BASE_URL", "http://127.0.0.1:1/")
    with pytest.raises(HubUnreachable, match="check the network"):
        load(f"deit:{TINY}")


def test_an_interruption_leaves_nothing(server: Any) -> None:
    def interrupt(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(f"deit:{TINY}", progress=interrupt)
    assert not list(server.folder.iterdir())


def test_a_folder_that_cannot_be_written_is_said(server: Any) -> None:
    server.folder.parent.write_text("a file where the folder should be")
    with pytest.raises(NotWritable, match="cannot be written"):
        load(f"deit:{TINY}")


def test_a_hub_that_hangs_is_given_up(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr(download, "READ_TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(deit, "BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/")
        with pytest.raises(HubUnreachable, match="cannot be downloaded") as given_up:
            load(f"deit:{TINY}")
    assert isinstance(given_up.value.__cause__, httpx.TimeoutException)
