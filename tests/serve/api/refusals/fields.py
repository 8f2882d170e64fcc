"""Fields of a value, a kind or a name that nobody takes."""

from __future__ import annotations

import base64

from tests.serve.api.refusals.case import Case, both
from tests.serve.api.refusals.uploads import file_of, picture

P = {"prompt": "a red heart"}
NOBODYS = "019ab2f4-6c1f-7b44-8e21-90d4a6f2c713"
_GIF = f"data:image/png;base64,{base64.b64encode(b'GIF89a').decode()}"
_CUT = f"data:image/png;base64,{base64.b64encode(file_of(picture())[:99]).decode()}"
_EDGES = {"name": "edges", "image": NOBODYS}
VALUE = "invalid_value"
PICTURES: list[tuple[str, dict[str, object], str]] = [
    ("colour", {"colour": "red"}, "unknown_field"),
    ("steps", {"steps": 20}, "unknown_field"),
    ("__proto__", {"__proto__": {"n": 1}}, "unknown_field"),
    ("n", {"n": 0}, VALUE),
    ("n", {"n": -1}, VALUE),
    ("n", {"n": 11}, VALUE),
    ("n", {"n": 10**9}, VALUE),
    ("n", {"n": "2"}, VALUE),
    ("n", {"n": True}, VALUE),
    ("n", {"n": [1]}, VALUE),
    ("size", {"size": "0x64"}, VALUE),
    ("size", {"size": "64x65"}, VALUE),
    ("size", {"size": "513x513"}, VALUE),
    ("size", {"size": "big"}, VALUE),
    ("size", {"size": "4096x4096"}, VALUE),
    ("size", {"size": "99992x99992"}, VALUE),
    ("size", {"size": "1000000000x8"}, VALUE),
    ("size", {"size": "-8x64"}, VALUE),
    ("size", {"size": "６４x６４"}, VALUE),
    ("size", {"size": "64x64\n"}, VALUE),
    ("size", {"size": 64}, VALUE),
    ("num_inference_steps", {"num_inference_steps": 0}, VALUE),
    ("num_inference_steps", {"num_inference_steps": -1}, VALUE),
    ("num_inference_steps", {"num_inference_steps": 10**9}, VALUE),
    ("num_inference_steps", {"num_inference_steps": True}, VALUE),
    ("num_inference_steps", {"num_inference_steps": 4.5}, VALUE),
    ("num_inference_steps", {"num_inference_steps": "20"}, VALUE),
    ("guidance_scale", {"guidance_scale": -1}, VALUE),
    ("guidance_scale", {"guidance_scale": 51}, VALUE),
    ("guidance_scale", {"guidance_scale": False}, VALUE),
    ("guidance_scale", {"guidance_scale": "3"}, VALUE),
    ("seed", {"seed": -2}, VALUE),
    ("seed", {"seed": 2**63 - 1}, VALUE),
    ("seed", {"seed": 2**70}, VALUE),
    ("seed", {"seed": 1.5}, VALUE),
    ("scheduler", {"scheduler": "dice"}, VALUE),
    ("scheduler", {"scheduler": "flow_match_euler"}, VALUE),
    ("scheduler", {"scheduler": "os.system"}, VALUE),
    ("clip_skip", {"clip_skip": -1}, VALUE),
    ("clip_skip", {"clip_skip": 10**9}, VALUE),
    ("clip_skip", {"clip_skip": "1"}, VALUE),
    ("loras", {"loras": "ink"}, VALUE),
    ("loras", {"loras": {"name": "ink"}}, VALUE),
    ("loras.0", {"loras": ["ink"]}, VALUE),
    ("loras.0.name", {"loras": [{}]}, "missing_field"),
    ("loras.0.scale", {"loras": [{"name": "ink", "scale": "1"}]}, VALUE),
    ("path", {"loras": [{"name": "ink", "path": "/etc/passwd"}]}, "unknown_field"),
    ("loras", {"loras": [{"name": "../ink"}]}, VALUE),
    ("loras", {"loras": [{"name": "https://example.com/ink.safetensors"}]}, VALUE),
    ("loras", {"loras": [{"name": "\ud800"}]}, VALUE),
    ("loras", {"loras": [{"name": "x" * 100_000}]}, VALUE),
    ("hires", {"hires": 2}, VALUE),
    ("hires.scale", {"hires": {"scale": 1}}, VALUE),
    ("hires.scale", {"hires": {"scale": 4.5}}, VALUE),
    ("hires.scale", {"size": "64x64", "hires": {"scale": 1.9}}, VALUE),
    ("hires.scale", {"hires": {"scale": "2"}}, VALUE),
    ("hires.strength", {"hires": {"strength": 0}}, VALUE),
    ("hires.strength", {"hires": {"strength": 0.001}}, VALUE),
    ("hires.num_inference_steps", {"hires": {"num_inference_steps": 0}}, VALUE),
    ("upscaler", {"hires": {"upscaler": "latent"}}, "unknown_field"),
    ("control", {"control": "edges"}, VALUE),
    ("control.name", {"control": {"image": "a"}}, "missing_field"),
    ("control.name", {"control": {"name": "edge", "image": "a"}}, VALUE),
    ("control.image", {"control": {"name": "edges", "image": 7}}, VALUE),
    ("url", {"control": {"name": "edges", "url": "a"}}, "unknown_field"),
    ("loras", {"loras": [{"name": "ink"}, {"name": "ink", "scale": 0.5}]}, VALUE),
    ("loras", {"loras": [{"name": "ink", "scale": 11}]}, VALUE),
    ("control.image", {"control": {"name": "edges"}}, "missing_field"),
    ("control.image", {"control": {"image": "a.png", "name": "edges"}}, VALUE),
    ("control.image", {"control": {"image": "file:///etc/passwd", "name": "edges"}}, VALUE),
    ("control.image", {"control": {"image": "http://169.254.169.254/", "name": "edges"}}, VALUE),
    ("control.image", {"control": {"image": NOBODYS, "name": "edges"}}, VALUE),
    ("control.image", {"control": {"image": "data:image/png;base64,*", "name": "edges"}}, VALUE),
    (
        "control.image",
        {"control": {"image": "data:image/png,abc", "name": "edges"}},
        "unsupported_image",
    ),
    ("control.image", {"control": {"image": _GIF, "name": "edges"}}, "unsupported_image"),
    ("control.image", {"control": {"image": _CUT, "name": "edges"}}, "invalid_image"),
    ("control.scale", {"control": {"scale": -10.5, **_EDGES}}, VALUE),
    ("control.start", {"control": {"start": 0.5, "end": 0.5, **_EDGES}}, VALUE),
    ("control.start", {"control": {"start": -0.1, **_EDGES}}, VALUE),
    ("control.start", {"control": {"end": 1.1, **_EDGES}}, VALUE),
    ("output_format", {"output_format": "bmp"}, VALUE),
    ("output_format", {"output_format": "../png"}, VALUE),
    ("output_compression", {"output_format": "webp", "output_compression": 101}, VALUE),
    ("output_compression", {"output_format": "jpeg", "output_compression": -1}, VALUE),
    ("output_compression", {"output_compression": 50}, VALUE),
    ("priority", {"priority": 101}, VALUE),
    ("priority", {"priority": -(10**9)}, VALUE),
    ("deadline_s", {"deadline_s": 0}, VALUE),
    ("deadline_s", {"deadline_s": -5}, VALUE),
    ("deadline_s", {"deadline_s": 1e9}, VALUE),
]
MODELS = [
    "dall-e-9",
    "../sfumato-embedded",
    "..\\..\\etc\\passwd",
    "/etc/passwd",
    "file:///etc/passwd",
    "https://example.com/model.safetensors",
    "stabilityai/stable-diffusion-2",
    "flow\r\nSet-Cookie: a=1",
    "'; DROP TABLE jobs; --",
    "FLOW",
    "x" * 100_000,
]
JOBS: list[tuple[str, dict[str, object]]] = [
    ("width", {"width": 0, "height": 64}),
    ("height", {"width": 64, "height": -8}),
    ("width", {"width": 513, "height": 64}),
    ("width", {"width": 10**9, "height": 8}),
    ("width", {"width": 10**9, "height": 10**9}),
    ("width", {"width": 8 * 10**3000, "height": 8 * 10**3000}),
    ("width", {"width": 1032, "height": 1024}),
    ("width", {"width": "64", "height": 64}),
    ("width", {"width": 64.0001, "height": 64}),
    ("height", {"width": 64}),
    ("width", {"height": 64}),
    ("size", {"width": 64, "height": 64, "size": "64x64"}),
]
GENERATIONS: list[tuple[str, dict[str, object], str]] = [
    ("width", {"width": 64}, "unknown_field"),
    ("quality", {"quality": "best"}, VALUE),
    ("response_format", {"response_format": "ftp"}, VALUE),
    ("background", {"background": "blue"}, VALUE),
    ("stream", {"stream": "yes"}, VALUE),
    ("partial_images", {"partial_images": 4}, VALUE),
    ("partial_images", {"partial_images": -1}, VALUE),
    ("user", {"user": "x" * 513}, VALUE),
    ("user", {"user": "\x00"}, VALUE),
    ("style", {"style": "grim"}, VALUE),
    ("moderation", {"moderation": "none"}, VALUE),
]
WEBHOOKS: list[tuple[str, dict[str, object], str]] = [
    ("url", {}, "missing_field"),
    ("url", {"url": "http://example.com/"}, "invalid_url"),
    ("url", {"url": "file:///etc/passwd"}, "invalid_url"),
    ("url", {"url": "javascript:alert(1)"}, "invalid_url"),
    ("url", {"url": "https://127.0.0.1/"}, "invalid_url"),
    ("url", {"url": "https://[::ffff:10.0.0.1]/"}, "invalid_url"),
    ("url", {"url": "https://169.254.169.254/latest/meta-data"}, "invalid_url"),
    ("url", {"url": "https://a:b@example.com/"}, "invalid_url"),
    ("url", {"url": "https://example.com:22/"}, "invalid_url"),
    ("url", {"url": "https://example.com/\r\nX-Evil: 1"}, "invalid_url"),
    ("url", {"url": "https://example.com/" + "x" * 2000}, "invalid_url"),
    ("url", {"url": "https://example.com/\x00"}, VALUE),
    ("events", {"url": "https://example.com/", "events": []}, VALUE),
    ("events", {"url": "https://example.com/", "events": ["image.progress"]}, VALUE),
    ("secret", {"url": "https://example.com/", "secret": "mine"}, "unknown_field"),
]


def _named(body: dict[str, object]) -> str:
    return ascii(body)[:60]


CASES = [
    *(
        case
        for param, fields, code in PICTURES
        for case in both(_named(fields), {**P, **fields}, 422, code, param=param)
    ),
    *(
        case
        for model in MODELS
        for case in both(
            f"model {ascii(model)[:40]}",
            {**P, "model": model},
            404,
            "model_not_found",
            param="model",
        )
    ),
    *both("model with ANSI", {**P, "model": "\x1b[2Jflow"}, 422, VALUE, param="model"),
    *both("model \\ud800", b'{"prompt": "a", "model": "\\ud800"}', 422, VALUE, param="model"),
    *(
        Case(f"job: {_named(fields)}", "POST", "/v1/jobs", 422, VALUE, {**P, **fields}, param=param)
        for param, fields in JOBS
    ),
    *(
        Case(
            f"generation: {_named(fields)}",
            "POST",
            "/v1/images/generations",
            400,
            code,
            {**P, **fields},
            param=param,
        )
        for param, fields, code in GENERATIONS
    ),
    *(
        Case(f"webhook: {_named(body)}", "POST", "/v1/webhooks", 422, code, body, param=param)
        for param, body, code in WEBHOOKS
    ),
]
