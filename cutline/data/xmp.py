"""XMP sidecars: `dc:description` is read and replaced, and everything else kept byte for byte.

Adobe's XMP specification, part 1 (ISO 16684-1), says what a packet contains.
"""

import re
from xml.sax.saxutils import escape, quoteattr

from cutline.data.xml_spans import XmlElement, parse_xml
from cutline.errors import DataError

DEFAULT_LANGUAGE = "x-default"
_RDF_URI, _DC_URI = (
    "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "http://purl.org/dc/elements/1.1/",
)
_RDF, _BLOCK, _ABOUT = (_RDF_URI, "RDF"), (_RDF_URI, "Description"), (_RDF_URI, "about")
_ALT, _ITEM, _DESCRIPTION = (_RDF_URI, "Alt"), (_RDF_URI, "li"), (_DC_URI, "description")
_LANGUAGE = ("http://www.w3.org/XML/1998/namespace", "lang")
_NAMESPACES = f'xmlns:rdf="{_RDF_URI}" xmlns:dc="{_DC_URI}"'
_EMPTY = f"""\
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="cutline">
 <rdf:RDF xmlns:rdf="{_RDF_URI}">
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
""".encode()
_ATTRIBUTE = re.compile(rb"\s+([^\s=]+)\s*=\s*(?:\"[^\"]*\"|'[^']*')")
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML


def read_descriptions(content: bytes, name: str) -> dict[str, str]:
    """Return the texts of `dc:description` by language; one without language is the default.

    Args:
        content: The content of an XMP file.
        name: Name of the file.

    Raises:
        DataError: It is not XMP in UTF-8, or has a document type.
    """
    texts: dict[str, str] = {}
    for block in _list_blocks(_find_rdf(content, name)):
        if text := block.attributes.get(_DESCRIPTION):
            texts.setdefault(DEFAULT_LANGUAGE, text)
        for element in block.find_all(_DESCRIPTION):
            items = [item for child in element.children for item in child.find_all(_ITEM)]
            for item in items or [element]:
                texts.setdefault(_language(item), item.text)
    return texts


def replace_description(content: bytes | None, text: str, name: str) -> bytes:
    """Return an XMP file with another `dc:description` in the default language.

    Args:
        content: The content of the file; None if there is none.
        text: The description; "" for none.
        name: Name of the file.

    Raises:
        DataError: It is not XMP in UTF-8, or has a document type.
    """
    data = _EMPTY if content is None else content
    rdf = _find_rdf(data, name)
    edits = [edit for block in _list_blocks(rdf) for edit in _remove_attribute(data, block)]
    elements = [each for block in _list_blocks(rdf) for each in block.find_all(_DESCRIPTION)]
    encoded = escape(_FORBIDDEN.sub("\ufffd", text), {"\r": "&#13;"})
    if elements:
        edits.append(_edit_element(data, elements[0], encoded))
    elif text:
        edits.append(_insert_block(data, rdf, encoded))
    for start, end, new in sorted(edits, reverse=True):
        data = data[:start] + new + data[end:]
    return data


_Edit = tuple[int, int, bytes]  # what is between two positions becomes something else


def _find_rdf(content: bytes, name: str) -> XmlElement:
    root = parse_xml(content, name)
    for element in (root, *root.children):
        if element.name == _RDF:
            return element
    raise DataError(f"{name}: XML, but not XMP (it has no rdf:RDF); correct or remove it")


def _list_blocks(rdf: XmlElement) -> list[XmlElement]:
    return list(rdf.find_all(_BLOCK))


def _language(element: XmlElement) -> str:
    language = element.attributes.get(_LANGUAGE, DEFAULT_LANGUAGE)
    return language.lower() if language.lower() == DEFAULT_LANGUAGE else language


def _remove_attribute(data: bytes, block: XmlElement) -> list[_Edit]:
    """Return what removes `dc:description` that is an attribute of a block."""
    if _DESCRIPTION not in block.attributes:
        return []
    name = block.qualified_names[_DESCRIPTION].encode()
    attributes = _ATTRIBUTE.finditer(data, block.start, block.content_start)
    return [(match.start(), match.end(), b"") for match in attributes if match[1] == name]


def _edit_element(data: bytes, element: XmlElement, text: str) -> _Edit:
    """Return what gives an element `dc:description` a text in the default language."""
    alternatives = next(element.find_all(_ALT), None)
    if alternatives is None:  # a text alone, or what XMP does not allow
        tag = f"{element.tag} xmlns{':' * (':' in element.tag)}{element.tag.rpartition(':')[0]}"
        new = f'<{tag}="{_DC_URI}" xmlns:rdf="{_RDF_URI}"><rdf:Alt>{_item("rdf:", text)}</rdf:Alt>'
        return element.start, element.end, f"{new}</{element.tag}>".encode()
    items = list(alternatives.find_all(_ITEM))
    for item in items:
        if _language(item) == DEFAULT_LANGUAGE:
            return item.replace_content(data, text.encode())
    first = _item(alternatives.tag.removesuffix("Alt"), text).encode()
    if not items:
        return alternatives.replace_content(data, first)
    start = alternatives.content_start
    space = data[start : items[0].start]
    return start, start, (space if space.isspace() else b"") + first


def _item(prefix: str, text: str) -> str:
    return f'<{prefix}li xml:lang="{DEFAULT_LANGUAGE}">{text}</{prefix}li>'


def _insert_block(data: bytes, rdf: XmlElement, text: str) -> _Edit:
    """Return what adds a block with `dc:description` at the end of `rdf:RDF`."""
    lines = [
        f"<rdf:Description rdf:about={quoteattr(_find_about(rdf))} {_NAMESPACES}>",
        " <dc:description>",
        "  <rdf:Alt>",
        f"   {_item('rdf:', text)}",
        "  </rdf:Alt>",
        " </dc:description>",
        "</rdf:Description>",
    ]
    start = data.rfind(b"\n", 0, rdf.content_end) + 1
    indent = data[start : rdf.content_end]
    inline = "".join(map(str.strip, lines)).encode()
    if rdf.is_empty:
        return rdf.replace_content(data, inline)
    if indent.strip():  # other elements are on the line of its end
        return rdf.content_end, rdf.content_end, inline
    end = b"\r\n" if data[:start].endswith(b"\r\n") else b"\n"
    return start, start, b"".join(indent + b" " + line.encode() + end for line in lines)


def _find_about(rdf: XmlElement) -> str:
    """Return what all blocks of the packet are about: mostly nothing but the file itself."""
    abouts = (block.attributes.get(_ABOUT) for block in _list_blocks(rdf))
    return next(filter(None, abouts), "")
