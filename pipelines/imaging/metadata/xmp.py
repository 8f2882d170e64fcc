"""XMP, the one container of metadata that PNG, JPEG, WebP and AVIF share.

Our parameters are JSON in ``sfumato:parameters``. Beside them stand properties that others read:
IPTC's, by which search engines and social networks know a picture of a trained model
(IPTC Photo Metadata Standard 2025.1), and XMP's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape

from pipelines.imaging.metadata.origin import Origin

SOFTWARE = "Sfumato"
_NAMESPACE = "urn:sfumato:xmp:1"
_SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_PICTURES = ("image", "control_image")
"""Parameters that name a picture which the client sent."""
_PACKET = """\
<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about=""
 xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 xmlns:sfumato="{namespace}">
{properties}
</rdf:Description>
</rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""
_NO_FIELDS = ("image", "mask", "control_image", "lora_files")
"""SHA-256 of files that the service had; a client cannot name them so."""
# XML 1.0 has no place for these, however they are escaped; JSON has.
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def source_type(metadata: Mapping[str, Any]) -> str:
    """IPTC's digital source type of a picture that was drawn with these parameters."""
    drawn_from_a_picture = any(metadata.get(name) for name in _PICTURES)
    kind = "compositeWithTrained" if drawn_from_a_picture else "trained"
    return f"{_SOURCE_TYPES}{kind}AlgorithmicMedia"


def write_xmp(metadata: Mapping[str, Any]) -> str:
    """The packet of a picture that was drawn with these parameters, which JSON can hold."""
    properties = {
        "xmp:CreatorTool": metadata.get("software", SOFTWARE),
        "xmp:CreateDate": metadata.get("created_at"),
        "Iptc4xmpExt:DigitalSourceType": source_type(metadata),
        "Iptc4xmpExt:AISystemUsed": metadata.get("model"),
        "Iptc4xmpExt:AIPromptInformation": metadata.get("prompt"),
        "sfumato:parameters": _json(metadata),
    }
    lines = [
        f"<{name}>{_text(value)}</{name}>"
        for name, value in properties.items()
        if value is not None
    ]
    return _PACKET.format(namespace=_NAMESPACE, properties="\n".join(lines))


def _json(metadata: Mapping[str, Any]) -> str:
    text = json.dumps(dict(metadata), ensure_ascii=False, separators=(",", ":"))
    return _NOT_IN_XML.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _text(value: object) -> str:
    return escape(_NOT_IN_XML.sub("�", str(value)), {"\r": "&#13;"})


def read_xmp(packet: bytes | str) -> dict[str, Any] | None:
    """What `write_xmp` wrote, even if another program arranged it anew; None if it is not ours."""
    values = _values(packet)
    if "parameters" not in values:
        return None
    try:
        metadata = json.loads(values["parameters"])
    except ValueError:
        return None
    return metadata if isinstance(metadata, dict) else None


def origin_of(metadata: Mapping[str, Any]) -> Origin:
    """The same, told apart: what a client may send, and what only the service knew."""
    metadata = dict(metadata)
    software = str(metadata.pop("software", SOFTWARE))
    created_at = metadata.pop("created_at", None)
    other = {name: _plain(metadata.pop(name)) for name in _NO_FIELDS if name in metadata}
    return Origin(software, metadata, other, created_at if isinstance(created_at, str) else None)


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _values(packet: bytes | str) -> dict[str, str]:
    """Of the properties in our namespace; none if it is no XML.

    A DOCTYPE, with which a small file can declare an endless text, ends the reading.
    """
    values: dict[str, str] = {}
    open_property: str | None = None
    prefix = f"{_NAMESPACE} "

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal open_property
        for key, value in attributes.items():  # a short form of the same
            if key.startswith(prefix):
                values[key.removeprefix(prefix)] = value
        if name.startswith(prefix):
            open_property = name.removeprefix(prefix)
            values[open_property] = ""

    def text(data: str) -> None:
        if open_property is not None:
            values[open_property] += data

    def end(_name: str) -> None:
        nonlocal open_property
        open_property = None

    def refuse(*_: object) -> None:
        raise ValueError("XMP has no DOCTYPE")

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = start
    parser.CharacterDataHandler = text
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(packet.strip(b"\0") if isinstance(packet, bytes) else packet.strip("\0"), True)
    except (expat.ExpatError, ValueError):
        return {}
    return values
