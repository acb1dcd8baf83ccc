"""Images as inputs: the tensor is what Pillow makes of the file, and a file that is no such image harms nobody."""

import io
import json
import struct
import subprocess
import sys
import time
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.serving import Reply, Server

SOURCE = '''\
"""Answers with the bytes that it got."""

import numpy as np

from penstock.worker import Tensor


class Model:
    inputs = {INPUTS}
    outputs = {"seen": Tensor("bytes", ())}

    def load(self):
        pass

    def predict(self, batch):
        image = batch["image"]
        return {"seen": np.array([np.ascontiguousarray(row).tobytes().hex().encode() for row in image], object)}
'''
BOTH = SOURCE.replace(
    "{INPUTS}", '{"image": Tensor("uint8", (6, 8, 3)), "mask": Tensor("uint8", (6, 8)), "n": Tensor("int64", ())}'
).replace('"seen": Tensor("bytes", ())', '"seen": Tensor("bytes", ()), "mask_seen": Tensor("bytes", ())')
BOTH = (
    BOTH[: BOTH.index("        image =")]
    + """\
        def seen(rows):
            return np.array([np.ascontiguousarray(row).tobytes().hex().encode() for row in rows], object)

        return {"seen": seen(batch["image"]), "mask_seen": seen(batch["mask"])}
"""
)
BLOB = BOTH.replace('"n": Tensor', '"blob": Tensor("bytes", ()), "n": Tensor').replace(
    'batch["image"]', 'batch["blob"]'
)
BLOB = BLOB.replace("np.ascontiguousarray(row).tobytes()", "(row if isinstance(row, bytes) else row.tobytes())")
HEIGHT, WIDTH = 6, 8
SIZE = (WIDTH, HEIGHT)
MODELS = {
    "rgb": ((HEIGHT, WIDTH, 3), None),
    "flat": ((HEIGHT, WIDTH), None),
    "grey": ((HEIGHT, WIDTH, 1), None),
    "rgba": ((HEIGHT, WIDTH, 4), None),
    "first": ((3, HEIGHT, WIDTH), "chw"),
    "unsaid": ((3, HEIGHT, WIDTH), None),
    "wrong": ((HEIGHT, WIDTH, 3), "chw"),
    "tall": ((None, WIDTH, 3), None),
    "square": ((WIDTH, WIDTH, 3), None),
    "float": ((HEIGHT, WIDTH, 3), None),
}
JSON = "application/json"
FORM = "multipart/form-data; boundary=line"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("images")
    settings = []
    for name, (shape, layout) in MODELS.items():
        dtype = "float32" if name == "float" else "uint8"
        inputs = f'{{"image": Tensor("{dtype}", {shape!r})}}'
        (folder / f"{name}.py").write_text(SOURCE.replace("{INPUTS}", inputs))
        settings.append(f'[models.{name}]\npath = "{folder / name}.py"\nstring_bytes_max = 4096\n')
        if layout is not None:
            settings.append(f'image_layout = "{layout}"\n')
        if name == "tall":
            settings.append("lengths = [16, 64]\n")
    (folder / "both.py").write_text(BOTH)
    settings.append(f'[models.both]\npath = "{folder}/both.py"\nstring_bytes_max = 4096\n')
    (folder / "blob.py").write_text(BLOB)
    settings.append(f'[models.blob]\npath = "{folder}/blob.py"\nstring_bytes_max = 4096\n')
    (folder / "large.py").write_text(SOURCE.replace("{INPUTS}", '{"image": Tensor("uint8", (1024, 1024, 3))}'))
    settings.append(f'[models.large]\npath = "{folder}/large.py"\nmax_batch_size = 2\n')
    (folder / "penstock.toml").write_text("".join(settings))
    running = Server.start(["--config", str(folder / "penstock.toml")], folder)
    yield running
    running.stop()


def picture(mode: str, size: tuple[int, int] = SIZE) -> Image.Image:
    noise = np.random.default_rng(7).integers(0, 256, (size[1], size[0], 4), np.uint8)
    image = Image.fromarray(noise, "RGBA") if mode == "RGBA" else Image.fromarray(noise[..., :3].copy(), "RGB")
    return image if image.mode == mode else image.convert(mode)


def file_of(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def send(server: Server, model: str, body: bytes, media_type: str, path: str = "/predict", **headers: str) -> Reply:
    return server.request("POST", f"{path}?model={model}", body, {"Content-Type": media_type, **headers})


def pixels(reply: Reply) -> bytes:
    assert reply.status == 200, reply.body
    return bytes.fromhex(reply.json()["outputs"]["seen"])


def expected(content: bytes, mode: str) -> bytes:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert(mode)).tobytes()


def as_json(content: bytes, **more: object) -> bytes:
    return json.dumps({"inputs": {"image": {"base64": b64encode(content).decode()}}, **more}).encode()


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *[("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")],
        *[("JPEG", mode) for mode in ("L", "RGB", "CMYK")],
        *[("BMP", mode) for mode in ("1", "L", "P", "RGB")],
        *[("GIF", mode) for mode in ("L", "P")],
        *[("WEBP", mode) for mode in ("RGB", "RGBA")],
    ],
)
@pytest.mark.parametrize(("model", "wanted"), [("rgb", "RGB"), ("rgba", "RGBA"), ("flat", "L"), ("grey", "L")])
def test_the_tensor_is_what_pillow_makes_of_the_file(
    server: Server, kind: str, mode: str, model: str, wanted: str
) -> None:
    content = file_of(picture(mode), kind)
    seen = pixels(send(server, model, content, f"image/{kind.lower()}"))
    assert seen == expected(content, wanted)


def test_channels_come_first_where_the_model_says_so(server: Server) -> None:
    content = file_of(picture("RGB"), "PNG")
    planes = np.moveaxis(np.asarray(picture("RGB")), 2, 0).tobytes()
    assert pixels(send(server, "first", content, "image/png")) == planes


def test_samples_of_16_bits_keep_their_upper_half(server: Server) -> None:
    samples = np.random.default_rng(3).integers(0, 1 << 16, (HEIGHT, WIDTH), np.uint16)
    content = file_of(Image.fromarray(samples), "PNG")
    assert pixels(send(server, "flat", content, "image/png")) == (samples >> 8).astype(np.uint8).tobytes()


def test_transparency_of_a_palette_is_kept_where_there_is_a_place_for_it(server: Server) -> None:
    content = file_of(picture("P"), "PNG", transparency=3)
    assert pixels(send(server, "rgba", content, "image/png")) == expected(content, "RGBA")


def test_the_first_picture_of_several_is_taken(server: Server) -> None:
    content = file_of(picture("P"), "GIF", save_all=True, append_images=[Image.new("P", SIZE, 1)])
    assert pixels(send(server, "rgb", content, "image/gif")) == expected(content, "RGB")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_the_orientation_of_a_camera_is_applied(server: Server, kind: str, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    upright = SIZE if turn < 5 else SIZE[::-1]
    options = {"lossless": True} if kind == "WEBP" else {}
    content = file_of(picture("RGB", upright), kind, exif=exif, **options)
    with Image.open(io.BytesIO(content)) as image:
        from PIL import ImageOps

        turned = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert turned.shape == (HEIGHT, WIDTH, 3)
    assert pixels(send(server, "rgb", content, f"image/{kind.lower()}")) == turned.tobytes()


def test_the_height_may_vary_where_the_models_does(server: Server) -> None:
    for height in (1, 16, 40):
        content = file_of(picture("RGB", (WIDTH, height)), "PNG")
        reply = send(server, "tall", content, "image/png")
        assert pixels(reply)[: WIDTH * height * 3] == expected(content, "RGB")
    refused = send(server, "tall", file_of(picture("RGB", (WIDTH, 65)), "PNG"), "image/png")
    assert refused.status == 422
    assert "8 x 65" in refused.json()["detail"] and "8 x any height up to 64" in refused.json()["detail"]


def test_images_stand_in_forms_and_as_base64(server: Server) -> None:
    image, mask = file_of(picture("RGB"), "PNG"), file_of(picture("L"), "PNG")
    parts = b"".join(
        b'--line\r\nContent-Disposition: form-data; name="%s"; filename="a"\r\nContent-Type: %s\r\n\r\n%s\r\n' % part
        for part in ((b"image", b"image/png", image), (b"mask", b"image/png", mask), (b"n", b"application/json", b"3"))
    )
    raw = expected(image, "RGB")
    assert pixels(send(server, "both", parts + b"--line--\r\n", FORM)) == raw
    inputs = {
        "image": {"base64": b64encode(image).decode()},
        "mask": {"base64": b64encode(expected(mask, "L")).decode()},
        "n": 3,
    }
    body = json.dumps({"model": "both", "inputs": inputs}).encode()
    reply = server.request("POST", "/predict", body, {"Content-Type": "application/json"})
    assert pixels(reply) == raw
    for kind in ("PNG", "BMP", "GIF", "WEBP", "JPEG"):
        content = file_of(picture("RGB"), kind)
        assert pixels(send(server, "rgb", as_json(content), "application/json")) == expected(content, "RGB")
        escaped = as_json(content).replace(b"/", b"\\/")
        assert pixels(send(server, "rgb", escaped, "application/json")) == expected(content, "RGB")


def test_rows_of_a_batch_may_be_images(server: Server) -> None:
    good, small = file_of(picture("RGB"), "PNG"), file_of(picture("RGB", (3, 3)), "PNG")
    tensor = np.zeros((HEIGHT, WIDTH, 3), np.uint8).tobytes()
    rows = [{"image": {"base64": b64encode(content).decode()}} for content in (good, small, tensor, good[:40], good)]
    body = json.dumps({"inputs": [*rows, [1]]}).encode()
    reply = send(server, "rgb", body, "application/json", "/predict/batch")
    assert reply.status == 200, reply.body
    outputs = [bytes.fromhex(row["seen"]) if row else None for row in reply.json()["outputs"]]
    raw = expected(good, "RGB")
    assert outputs == [raw, None, tensor, None, raw, None]
    errors = {error["row"]: error for error in reply.json()["errors"]}
    assert {row: error["code"] for row, error in errors.items()} == {
        1: "invalid_input",
        3: "malformed_body",
        5: "invalid_input",
    }
    assert "3 x 3" in errors[1]["detail"] and "8 x 6" in errors[1]["detail"]


def test_the_bytes_of_an_image_that_cannot_be_used_are_no_pixels(server: Server) -> None:
    """With a height that varies, a file of a multiple of 24 bytes could be taken for a tensor."""
    broken = file_of(picture("RGB"), "PNG")[:96]
    small = file_of(picture("RGB", (3, 3)), "PNG")
    small += bytes(-len(small) % 24)
    good = file_of(picture("RGB"), "PNG")
    rows = [{"image": {"base64": b64encode(content).decode()}} for content in (broken, good, small, broken)]
    reply = send(server, "tall", json.dumps({"inputs": rows}).encode(), "application/json", "/predict/batch")
    assert reply.status == 200, reply.body
    assert [row is not None for row in reply.json()["outputs"]] == [False, True, False, False]
    codes = {error["row"]: error["code"] for error in reply.json()["errors"]}
    assert codes == {0: "malformed_body", 2: "invalid_input", 3: "malformed_body"}
    escaped = json.dumps({"inputs": rows[:2]}).replace('"base64"', '"b\\u0061se64"', 1).encode()
    reply = send(server, "tall", escaped, "application/json", "/predict/batch")
    assert reply.status == 400 or reply.json()["outputs"][0] is None, reply.body


def test_the_same_file_may_stand_for_several_inputs(server: Server) -> None:
    good = file_of(picture("RGB"), "PNG")
    both = {"base64": b64encode(good).decode()}
    reply = send(server, "both", json.dumps({"inputs": {"image": both, "mask": both, "n": 3}}).encode(), JSON)
    assert pixels(reply) == expected(good, "RGB")
    assert bytes.fromhex(reply.json()["outputs"]["mask_seen"]) == expected(good, "L")
    inputs = {"image": both, "mask": both, "blob": both, "n": 3}
    reply = send(server, "blob", json.dumps({"inputs": inputs}).encode(), JSON)
    assert pixels(reply) == good


def test_images_are_charged_for_wherever_they_stand(server: Server) -> None:
    """One small file in many rows would become a large body."""
    image = {"image": {"base64": b64encode(file_of(Image.new("RGB", (1024, 1024)), "PNG")).decode()}}
    reply = send(server, "large", json.dumps({"inputs": [image] * 9}).encode(), JSON, "/predict/batch")
    assert reply.status == 413 and "become more than" in reply.json()["detail"], reply.body


def test_pixels_that_begin_like_a_bmp_are_pixels(server: Server) -> None:
    tensor = b"BM" + bytes(range(1, 95))
    assert pixels(send(server, "tall", as_json(tensor), JSON))[:96] == tensor
    content = file_of(picture("RGB"), "BMP")
    assert pixels(send(server, "tall", as_json(content), JSON))[: HEIGHT * WIDTH * 3] == expected(content, "RGB")


def test_a_tensor_that_begins_like_a_file_is_a_tensor(server: Server) -> None:
    for beginning in (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF", b"BM", b"GIF89a"):
        tensor = beginning.ljust(HEIGHT * WIDTH * 3, b"\x07")
        assert pixels(send(server, "rgb", as_json(tensor), "application/json")) == tensor
        assert pixels(send(server, "rgb", tensor, "application/octet-stream")) == tensor


def png(width: int, height: int, data: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def hostile() -> dict[str, tuple[bytes, str, int, str]]:
    """Name: the body, what it is called, the status, and a part of the detail."""
    good = file_of(picture("RGB"), "PNG")
    photo = file_of(picture("RGB"), "JPEG")
    squeezed = zlib.compress(bytes(64 << 20), 9)
    return {
        "empty": (b"", "image/png", 400, "no image"),
        "no image": (b"hello, world", "image/png", 400, "none of PNG"),
        "a cut PNG": (good[: len(good) // 2], "image/png", 400, "no image"),
        "a cut JPEG": (photo[: len(photo) // 2], "image/jpeg", 400, "no image"),
        "a head only": (good[:33], "image/png", 400, "no image"),
        "a broken checksum": (good[:20] + b"\xff" + good[21:], "image/png", 400, "no image"),
        "another format": (photo, "image/png", 415, "is JPEG"),
        "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", 415, "image/svg+xml"),
        "SVG that is called PNG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/png", 400, "none of PNG"),
        "TIFF": (file_of(picture("RGB"), "TIFF"), "image/tiff", 415, "image/tiff"),
        "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n", "image/png", 400, "none of PNG"),
        "a huge head": (png(60_000, 60_000, b""), "image/png", 422, "60000 x 60000"),
        "a bomb": (png(30_000, 30_000, squeezed), "image/png", 422, "30000 x 30000"),
        "a bomb of the right size": (png(WIDTH, HEIGHT, squeezed), "image/png", 200, ""),
        "no width": (png(0, HEIGHT, b""), "image/png", 400, "no image"),
        "another size": (file_of(picture("RGB", (64, 48)), "PNG"), "image/png", 422, "64 x 48"),
    }


@pytest.mark.parametrize("name", hostile())
def test_what_is_no_image_is_refused_and_harms_nobody(server: Server, name: str) -> None:
    content, media_type, status, detail = hostile()[name]
    reply = send(server, "rgb", content, media_type)
    assert reply.status == status, reply.body
    if status != 200:
        assert detail in reply.json()["detail"]
        assert "inputs.image" in reply.json()["detail"]
    if status == 422:
        assert "8 x 6" in reply.json()["detail"]
    good = file_of(picture("RGB"), "PNG")
    assert pixels(send(server, "rgb", good, "image/png")) == expected(good, "RGB")


def test_every_cut_and_many_flips_of_a_file_are_answered(server: Server) -> None:
    random = np.random.default_rng(11)
    for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP"):
        content = file_of(picture("P" if kind == "GIF" else "RGB"), kind)
        for _ in range(12):
            damaged = bytearray(content[: int(random.integers(0, len(content) + 1))])
            for at in random.integers(0, max(len(damaged), 1), 3) if damaged else ():
                damaged[at] ^= 1 << int(random.integers(0, 8))
            reply = send(server, "rgb", bytes(damaged), f"image/{kind.lower()}")
            assert reply.status in (200, 400, 415, 422), reply.body


@pytest.mark.parametrize("model", ["unsaid", "wrong"])
def test_a_layout_that_nobody_has_declared_is_asked_for(server: Server, model: str) -> None:
    reply = send(server, model, file_of(picture("RGB"), "PNG"), "image/png")
    assert reply.status == 415
    assert "image_layout" in reply.json()["detail"] and model in reply.json()["detail"]


def test_images_are_for_uint8(server: Server) -> None:
    reply = send(server, "float", file_of(picture("RGB"), "PNG"), "image/png")
    assert reply.status == 415
    assert "float32" in reply.json()["detail"]


def test_options_of_a_request_count_for_its_image(server: Server) -> None:
    content = file_of(picture("RGB"), "PNG")
    reply = send(server, "rgb", content, "image/png", **{"X-Penstock-Receipt": "true", "X-Request-Id": "mine"})
    assert pixels(reply) == expected(content, "RGB")
    assert reply.headers["x-penstock-batch-rows"] == "1" and reply.headers["x-request-id"] == "mine"
    alone = {"X-Penstock-Receipt": "true", "X-Penstock-Reproducible": "true"}
    reply = send(server, "rgb", as_json(content), "application/json", **alone)
    assert reply.headers["x-penstock-sealed"] == "reproducible"
    assert send(server, "rgb", content, "image/png", **{"X-Request-Timeout-Ms": "soon"}).status == 400
    raw = send(server, "rgb", content, "image/png", Accept="application/msgpack")
    assert raw.headers["content-type"] == "application/msgpack"


def test_a_file_may_be_larger_than_its_tensor(server: Server) -> None:
    content = file_of(picture("RGB"), "BMP") + bytes(1 << 20)
    assert pixels(send(server, "rgb", content, "image/bmp")) == expected(content, "RGB")
    assert send(server, "rgb", bytes(17 << 20), "image/png").status == 413


def test_the_main_process_does_not_load_pillow(server: Server) -> None:
    content = file_of(picture("RGB"), "PNG")
    assert send(server, "rgb", content, "image/png").status == 200
    main = psutil.Process(server.process.pid)
    assert "PIL" not in Path(f"/proc/{main.pid}/maps").read_text()
    readers = [each for each in main.children(recursive=True) if "penstock.jobs.images" in each.cmdline()]
    assert 1 <= len(readers) <= 2


def readers_of(server: Server) -> list[psutil.Process]:
    children = psutil.Process(server.process.pid).children(recursive=True)
    return [each for each in children if "penstock.jobs.images" in each.cmdline()]


@pytest.mark.parametrize("model", ["rgb", "nowhere"])
def test_a_reader_keeps_no_document(server: Server, model: str) -> None:
    image = b64encode(file_of(picture("RGB"), "PNG"))
    body = b'{"inputs":{"image":{"base64":"' + image + b'"}},"junk":[' + b"[]," * 4_000_000 + b"[]]}"
    assert send(server, model, body, JSON).status in (413, 422)
    assert all(each.memory_info().rss < 150 << 20 for each in readers_of(server))


def test_a_reader_without_memory_ends() -> None:
    content = png(20_000, 20_000, b"")
    goal = ["image", 20_000, 20_000, 20_000, 3, False]
    order = {"do": "image", "goal": goal, "media_type": None, "bytes": len(content)}
    orders = (json.dumps(order).encode() + b"\n" + content) * 2
    # The second order is for another one.
    command = [sys.executable, "-m", "penstock.jobs.images"]
    done = subprocess.run(command, input=orders, capture_output=True, timeout=300)
    (answer,) = done.stdout.splitlines()
    assert json.loads(answer)["code"] == "body_too_large" and "more memory" in json.loads(answer)["detail"]
    assert done.returncode == 0


def test_a_reader_that_dies_is_replaced(serve: Callable[..., Server], tmp_path: Path) -> None:
    (tmp_path / "rgb.py").write_text(SOURCE.replace("{INPUTS}", '{"image": Tensor("uint8", (6, 8, 3))}'))
    running = serve(models={"rgb": tmp_path / "rgb.py"})
    content = file_of(picture("RGB"), "PNG")
    assert send(running, "rgb", content, "image/png").status == 200
    (reader,) = (
        each
        for each in psutil.Process(running.process.pid).children(recursive=True)
        if "penstock.jobs.images" in each.cmdline()
    )
    reader.kill()
    deadline = time.monotonic() + 60
    while reader.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
    assert send(running, "rgb", content, "image/png").status == 200


@pytest.mark.parametrize("media_type", ["image/png", "text/plain", "multipart/form-data; boundary=line"])
def test_a_file_is_no_batch(server: Server, media_type: str) -> None:
    reply = server.request("POST", "/predict/batch?model=rgb", b"--line--\r\n", {"Content-Type": media_type})
    problem = json.loads(reply.body)
    assert (reply.status, problem["code"]) == (415, "unsupported_media_type")
    assert media_type.partition(";")[0] in problem["detail"] or "send it to /predict" in problem["detail"]
