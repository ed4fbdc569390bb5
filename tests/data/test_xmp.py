"""XMP sidecars of photo managers: the description changes, and nothing else."""

import re
import xml.etree.ElementTree as ET
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xmp_sidecars import DARKTABLE, DIGIKAM, LIGHTROOM, SIDECARS

from cutline.data.xmp import read_descriptions, replace_description
from cutline.errors import DataError

NAMES = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
}
LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)


def packet(content: str, attributes: str = "", tail: str = "") -> bytes:
    return (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{NAMES["rdf"]}">'
        f'<rdf:Description rdf:about="" xmlns:dc="{NAMES["dc"]}"{attributes}>{content}'
        f"</rdf:Description></rdf:RDF>{tail}</x:xmpmeta>"
    ).encode()


def alternatives(items: str) -> str:
    return f"<dc:description><rdf:Alt>{items}</rdf:Alt></dc:description>"


def item(language: str, text: str) -> str:
    return f'<rdf:li xml:lang="{language}">{text}</rdf:li>'


def read_default(data: bytes) -> str:
    """Return the description in the default language, as another parser reads it."""
    root = ET.Element("file")
    root.append(ET.fromstring(data))
    found = root.findall(".//rdf:RDF/rdf:Description/dc:description", NAMES)
    assert len(found) == 1
    items = found[0].findall("rdf:Alt/rdf:li", NAMES)
    [default] = [each for each in items if each.attrib[LANGUAGE] == "x-default"]
    assert items[0] is default  # as the specification wants it
    assert not root.findall(f".//*[@{{{NAMES['dc']}}}description]")
    return default.text or ""


def is_xml(character: str) -> bool:
    """Return whether XML may contain a character."""
    return character >= " " and character not in "\ufffe\uffff"


def test_a_new_packet_has_a_description() -> None:
    data = replace_description(None, "a <dog> & a cat", "a.xmp")
    assert read_default(data) == "a <dog> & a cat"
    assert data.startswith('<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'.encode())
    assert data.endswith(b'<?xpacket end="w"?>\n')


@pytest.mark.parametrize("name", SIDECARS)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_nothing_else_changes(name: str, newline: str, mark: str) -> None:
    before = (mark + SIDECARS[name].replace("\n", newline)).encode()
    after = replace_description(before, "a dog", name)
    assert read_default(after) == "a dog"
    if "dc:description=" in SIDECARS[name]:
        before = re.sub(rb'\s+dc:description="[^"]*"', b"", before)
    end = next(n for n in range(len(before)) if before[-1 - n] != after[-1 - n])
    start = next(n for n in range(len(before)) if before[n] != after[n])
    assert b"<" not in before[start : len(before) - end]
    assert len(after[start : len(after) - end]) < 400
    if newline == "\r\n":
        assert after.count(b"\n") == after.count(b"\r\n")
    assert replace_description(after, "a dog", name) == after
    assert read_default(replace_description(after, "", name)) == ""


def test_other_languages_stay() -> None:
    assert read_descriptions(DIGIKAM.encode(), "a.xmp") == {
        "x-default": "Am Strand\nmit Hund",
        "de-DE": "Am Strand",
    }
    after = replace_description(DIGIKAM.encode(), "a dog", "a.xmp")
    assert read_descriptions(after, "a.xmp") == {"x-default": "a dog", "de-DE": "Am Strand"}


def test_a_default_is_put_before_other_languages() -> None:
    data = packet(alternatives("\n  " + item("fr", "un chien") + "\n"))
    after = replace_description(data, "a dog", "a.xmp")
    added = "\n  " + item("x-default", "a dog")
    assert after == data.replace(b"<rdf:Alt>", b"<rdf:Alt>" + added.encode())
    assert read_default(after) == "a dog"


@pytest.mark.parametrize(
    ("content", "attributes", "expected"),
    [
        (alternatives(item("x-default", "old")), "", "old"),
        (alternatives(item("X-Default", "old")), "", "old"),
        (alternatives('<rdf:li xml:lang="x-default"/>'), "", ""),
        (alternatives(item("x-default", "a &lt; b&#x20; <!-- > -->")), "", "a < b  "),
        (alternatives("<rdf:li>no language</rdf:li>"), "", "no language"),
        (alternatives(""), "", ""),
        ("<dc:description><rdf:Alt/></dc:description>", "", ""),
        ("<dc:description>old</dc:description>", "", "old"),
        ("<dc:description><![CDATA[<old>]]></dc:description>", "", "<old>"),
        ("<dc:description/>", "", ""),
        ("<dc:description><rdf:Bag><rdf:li>old</rdf:li></rdf:Bag></dc:description>", "", "old"),
        ("", ' dc:description="old > &quot;b&quot;"', 'old > "b"'),
        ("", "\n dc:description = 'old' x:a=' dc:description=\"no\"' xmlns:x='x'", "old"),
        (alternatives(item("x-default", "old")), ' dc:description="attribute"', "attribute"),
        ("<dc:title>dc:description</dc:title>", "", None),
        ('<dc:x><rdf:Seq><rdf:li dc:description="no"/></rdf:Seq></dc:x>', "", None),
    ],
)
def test_every_form_of_a_description(content: str, attributes: str, expected: str | None) -> None:
    data = packet(content, attributes)
    texts = read_descriptions(data, "a.xmp")
    assert texts.get("x-default") == expected
    after = replace_description(data, "new", "a.xmp")
    assert read_descriptions(after, "a.xmp") == {"x-default": "new"}
    if "dc:x>" in content:
        assert content.encode() in after
    elif "rdf:li>no" not in content and "X-Default" not in content:
        assert read_default(after) == "new"
    if " x:a" in attributes:
        assert b" x:a=' dc:description=\"no\"'" in after


@pytest.mark.parametrize("prefixes", [("r", "d"), ("r", ""), ("", "d")])
def test_prefixes_are_those_of_the_file(prefixes: tuple[str, str]) -> None:
    rdf, dc = (f"{prefix}:" * bool(prefix) for prefix in prefixes)
    names = " ".join(
        f'xmlns{f":{prefix}" if prefix else ""}="{NAMES[name]}"'
        for prefix, name in zip(prefixes, ("rdf", "dc"), strict=True)
    )
    for inner in (
        "",
        f"<{dc}description>old</{dc}description>",
        f"<{dc}description><{rdf}Alt/></{dc}description>",
    ):
        data = (
            f"<{rdf}RDF {names}><{rdf}Description>{inner}</{rdf}Description></{rdf}RDF>"
        ).encode()
        assert read_default(replace_description(data, "new", "a.xmp")) == "new"


@pytest.mark.parametrize("rdf", ["<rdf:RDF {}/>", "<rdf:RDF {}></rdf:RDF>", "<rdf:RDF {}\n/>"])
def test_an_empty_packet_gets_a_description(rdf: str) -> None:
    data = rdf.format(f'xmlns:rdf="{NAMES["rdf"]}"').encode()
    for each in (data, b"<x>" + data + b"</x>"):
        assert read_default(replace_description(each, "new", "a.xmp")) == "new"
        assert replace_description(each, "", "a.xmp") == each


def test_a_new_block_is_about_the_same() -> None:
    data = packet("").replace(b'about=""', b"about='uuid:1&amp;2'")
    after = replace_description(data, "new", "a.xmp").decode()
    assert after.count('rdf:about="uuid:1&amp;2"') == 1


BROKEN = {
    "empty": b"",
    "truncated": LIGHTROOM.encode()[:900],
    "not XML": b"a dog\n",
    "another root": b"<html/>",
    "no RDF": b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>',
    "undefined prefix": b"<rdf:RDF/>",
    "latin-1": b'<?xml version="1.0" encoding="ISO-8859-1"?>' + packet(""),
    "not UTF-8": packet("caf\xe9").replace("\xe9".encode(), b"\xe9"),
    "UTF-16": packet("").decode().encode("utf-16"),
    "document type": b"<!DOCTYPE x [<!ENTITY a 'b'>]>" + packet(""),
    "external entity": b"<!DOCTYPE x SYSTEM 'file:///etc/passwd'>" + packet("&x;"),
    "undefined entity": packet(alternatives(item("x-default", "&nbsp;"))),
    "two roots": packet("") * 2,
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused(name: str) -> None:
    for read in (read_descriptions, lambda data, name: replace_description(data, "a", name)):
        with pytest.raises(DataError, match=r"^a\.xmp: .* correct ") as caught:
            read(BROKEN[name], "a.xmp")
        assert str(caught.value).isprintable()


def test_entities_are_never_expanded() -> None:
    bomb = "".join(f"<!ENTITY e{n} '{f'&e{n - 1};' * 10}'>" for n in range(1, 20))
    data = f"<!DOCTYPE x [<!ENTITY e0 'x'>{bomb}]>".encode() + packet("&e19;")
    with pytest.raises(DataError, match="document type"):
        read_descriptions(data, "a.xmp")


def test_deep_nesting_is_no_problem() -> None:
    depth = 20_000
    data = packet("<dc:a>" * depth + "</dc:a>" * depth)
    assert read_default(replace_description(data, "new", "a.xmp")) == "new"


@given(texts, texts)
def test_any_text_is_written(old: str, new: str) -> None:
    for data in (None, DARKTABLE.encode(), DIGIKAM.encode()):
        once = replace_description(data, old, "a.xmp")
        twice = replace_description(once, new, "a.xmp")
        read = read_descriptions(twice, "a.xmp").get("x-default", "")
        assert read == re.sub(
            "[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", new
        )
        if old and new:
            assert replace_description(twice, old, "a.xmp") == once


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=30))
def test_every_byte_around_the_text_stays(text: str) -> None:
    content = alternatives(item("x-default", "OLD") + item("en", escape(text)))
    head = f"<?a b>?><!-- <rdf:RDF> {text.replace('-', '')} -->".encode()
    data = head + packet(f"<dc:a>{escape(text)}</dc:a>{content}", f" dc:b={quoteattr(text)}")
    if "OLD" not in text and all(map(is_xml, text)):
        assert replace_description(data, "NEW", "a.xmp") == data.replace(b"OLD", b"NEW")
