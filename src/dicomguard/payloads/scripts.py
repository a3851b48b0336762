"""Scripts, in ASCII or UTF-16 LE: a language's own words, never words of ordinary text.

One word proves nothing (a report may mention PowerShell). A script is a form that is nothing else
(``<?php``, ``powershell -enc``), or two different words of the same language in one value. From
its trigger a validator looks only as far as the next word: where that is the same again, the hit
there goes on, so that all hits of a value together read it once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dicomguard.payloads.payload import Data, Payload

_REACH = 1 << 20
"""Bytes searched for a second word; half as many characters in UTF-16."""
_RUN = 1 << 12
"""Bytes of text on either side that are counted to the script."""

# Runs of text by width of a character. The one behind a place is matched on reversed bytes, and
# takes the byte order mark of UTF-16 with it.
_TEXT_AHEAD = {
    1: re.compile(rb"[\t\n\f\r\x20-\x7e\x80-\xff]*"),
    2: re.compile(rb"(?:[\t\n\f\r\x20-\x7e]\0)*"),
}
_TEXT_BEHIND = {1: _TEXT_AHEAD[1], 2: re.compile(rb"(?:\0[\t\n\f\r\x20-\x7e])*(?:\xfe\xff)?")}


@dataclass(frozen=True, slots=True)
class _Language:
    """A scripting language by its words.

    Attributes:
        name: For people.
        words: Alternatives, each a named group. The group ``proof`` is a form that is a script
            by itself; of the others two different ones are needed.
    """

    name: str
    words: re.Pattern[bytes]

    def find(self, data: Data, hit: int, low: int, high: int) -> Payload | None:
        """The script whose word is at ``hit``, within the value."""
        high = min(high, len(data))
        width = 2 if data[hit + 1 : hit + 2] == b"\0" else 1
        if width == 1:
            text, first, limit = data, hit, min(hit + _REACH, high)
        else:
            text = data[hit : min(hit + _REACH, high) : 2]
            first, limit = 0, len(text)
        word = self.words.match(text, first, limit)
        if word is None:
            return None
        if word.lastgroup != "proof":
            second = self.words.search(text, word.end(), limit)
            if second is None or second.lastgroup == word.lastgroup:
                return None
            word = second
        words_end = min(hit + width * (word.end() - first), high)
        start, end = _text_around(data, hit, words_end, low, high, width=width)
        return Payload(
            start=start,
            end=end,
            description=self.name if width == 1 else f"{self.name} in UTF-16",
            confirmed=False,
            whole_file=start == 0,
        )


def _text_around(
    data: Data, start: int, end: int, low: int, high: int, *, width: int
) -> tuple[int, int]:
    """Widen a run of text to the printable characters around it, within the value and 4 KiB."""
    before = data[max(low, start - _RUN) : start]
    behind = _TEXT_BEHIND[width].match(before[::-1])
    ahead = _TEXT_AHEAD[width].match(data, end, min(end + _RUN, high))
    return start - (behind.end() if behind else 0), ahead.end() if ahead else end


def _language(name: str, **words: str) -> _Language:
    alternatives = "|".join(f"(?P<{group}>{pattern})" for group, pattern in words.items())
    return _Language(name=name, words=re.compile(alternatives.encode(), re.IGNORECASE))


_POWERSHELL = _language(
    "PowerShell script",
    proof=(
        r"powershell(?:\.exe)?\"?[ \t]{1,8}[-/](?:e[ncodema]*|ec|w[indowstyle]*|nop[rofile]*"
        r"|noni[nteracv]*|ex[ecutionplcy]*|ep|c[omand]*|f[ile]*|sta)[ \t]"
    ),
    base64=r"FromBase64String",
    invoke=r"Invoke-(?:Expression|WebRequest|RestMethod|Command|Shellcode|Mimikatz|WmiMethod)",
    client=r"Net\.WebClient",
    download=r"Download(?:String|File|Data)[ \t]{0,8}\(",
    new=r"New-Object[ \t]",
    start=r"Start-Process[ \t]",
    policy=r"-ExecutionPolicy[ \t]",
    hidden=r"-WindowStyle[ \t]{1,8}Hidden",
    load=r"Reflection\.Assembly\]::Load",
    type=r"Add-Type[ \t]",
    iex=r"\bIEX[ \t]{0,8}[($&]|\|[ \t]{0,8}IEX\b",
)
_BATCH = _language(
    "batch script",
    proof=r"@echo[ \t]{1,8}off[ \t]{0,8}[\r\n&]",
    comspec=r"%COMSPEC%",
    cmd=r"cmd(?:\.exe)?[ \t]{1,8}/[ckq][ \t]",
    setlocal=r"setlocal[ \t]{1,8}enable",
    certutil=r"certutil(?:\.exe)?[ \t]{1,8}[-/](?:decode|urlcache|f)",
    bitsadmin=r"bitsadmin(?:\.exe)?[ \t]{1,8}/",
    registry=r"reg(?:\.exe)?[ \t]{1,8}add[ \t]{1,8}\"?HK",
    schtasks=r"schtasks(?:\.exe)?[ \t]{1,8}/",
    regsvr=r"regsvr32(?:\.exe)?[ \t]{1,8}/",
    rundll=r"rundll32(?:\.exe)?[ \t]",
    mshta=r"mshta(?:\.exe)?[ \t]",
    shadow=r"vssadmin(?:\.exe)?[ \t]{1,8}delete",
    folder=r"%(?:~dp0|APPDATA%|TEMP%|PUBLIC%|USERPROFILE%)",
    powershell=r"powershell(?:\.exe)?[ \t]",
    start=r"[\r\n&][ \t]{0,8}start[ \t]{1,8}(?:/|\"\")",
)
_WINDOWS_SCRIPT = _language(
    "Windows Script Host script",
    wscript=r"WScript\.Shell",
    host=r"WScript\.(?:Create|Quit|Sleep|Echo|Arguments|ScriptFullName)",
    files=r"Scripting\.FileSystemObject",
    application=r"Shell\.Application",
    request=r"(?:MSXML2\.(?:Server)?XMLHTTP|WinHttp\.WinHttpRequest)",
    stream=r"ADODB\.Stream",
    active=r"ActiveXObject[ \t]{0,8}\(",
    create=r"CreateObject[ \t]{0,8}\(",
    moniker=r"winmgmts:",
    resume=r"On[ \t]{1,8}Error[ \t]{1,8}Resume[ \t]{1,8}Next",
    execute=r"\b(?:eval|ExecuteGlobal)[ \t]{0,8}\(|\.Run[ \t]{0,8}[(\"]",
)
_HTML = _language(
    "HTML with script",
    proof=(
        r"<script\s[^<>]{0,200}\b(?:language|type|src|runat)\s{0,8}="
        r"|<hta:application\b"
    ),
    tag=r"<script\s{0,8}>",
    url=r"javascript:",
    code=(
        r"document\.(?:cookie|write|location)|window\.(?:location|open)|location\.href"
        r"|XMLHttpRequest|ActiveXObject|String\.fromCharCode"
        r"|\b(?:alert|eval|fetch|unescape|atob|function)\s{0,8}\("
    ),
)
_PHP = _language("PHP script", proof=r"<\?php[\s(/]")
_SHELL = _language(
    "shell script",
    proof=r"/dev/(?:tcp|udp)/[^\s/]{1,255}/\d",
    fetch=r"\b(?:curl|wget)[ \t]{1,8}(?:-|https?://)",
    pipe=r"\|[ \t]{0,8}(?:/bin/|/usr/bin/)?(?:ba|da|z)?sh\b",
    mode=r"\bchmod[ \t]{1,8}(?:\+x|[0-7]{3,4})\b",
    decode=r"\bbase64[ \t]{1,8}(?:-d|--decode|-D)\b",
    interactive=r"/bin/(?:ba|da|z)?sh[ \t]{1,8}-[ic]\b",
    listen=r"\bmkfifo[ \t]|\bnc[ \t]{1,8}-[a-z]{0,4}e\b",
)


def powershell(data: Data, hit: int, low: int, high: int) -> Payload | None:
    """A PowerShell script or command line; ``hit`` is at one of its words."""
    return _POWERSHELL.find(data, hit, low, high)


def batch(data: Data, hit: int, low: int, high: int) -> Payload | None:
    """A script of the Windows command processor; ``hit`` is at one of its words."""
    return _BATCH.find(data, hit, low, high)


def windows_script(data: Data, hit: int, low: int, high: int) -> Payload | None:
    """VBScript or JScript of the Windows Script Host; ``hit`` is at one of its words."""
    return _WINDOWS_SCRIPT.find(data, hit, low, high)


def html(data: Data, hit: int, low: int, high: int) -> Payload | None:
    """HTML with script in it, or an HTML application; ``hit`` is at one of its words."""
    return _HTML.find(data, hit, low, high)


def php(data: Data, hit: int, low: int, high: int) -> Payload | None:
    """A PHP script; ``hit`` is at its opening tag."""
    return _PHP.find(data, hit, low, high)


def shell(data: Data, hit: int, low: int, high: int) -> Payload | None:
    """A POSIX shell script without an interpreter line; ``hit`` is at one of its words."""
    return _SHELL.find(data, hit, low, high)


# --- The interpreter line: Linux execve(2), binfmt_script -----------------------------------------

_INTERPRETER_LINE = re.compile(rb"#![ \t]*(/[!-~]+)(?:[ \t][\t -~]*)?(?:\r?\n|\0|\Z)")
_INTERPRETER_LINE_MAX = 256
_INTERPRETERS = re.compile(
    rb"(env|a?sh|ba?sh|da?sh|[ckz]sh|mksh|fish|busybox|perl|python|pypy|ruby|php|node|lua|tclsh"
    rb"|[gmn]?awk|g?sed|make|osascript|pwsh|expect|java)(?:[-\d.][!-~]*)?\Z"
)


def shebang(data: Data, hit: int, low: int, high: int) -> Payload | None:
    """A script with an interpreter line; ``hit`` is at its ``#!``.

    It must be the very start of the value or of the data, as elsewhere no system obeys it.
    Confirmed where the interpreter is a known one.
    """
    if hit not in (0, low):
        return None
    high = min(high, len(data))
    line = _INTERPRETER_LINE.match(data, hit, min(hit + _INTERPRETER_LINE_MAX, high))
    if line is None:
        return None
    known = _INTERPRETERS.match(line[1].rpartition(b"/")[2])
    _, end = _text_around(data, hit, line.end(), low, high, width=1)
    return Payload(
        start=hit,
        end=end,
        description=f"script for {known[1].decode('ascii') if known else 'an interpreter'}",
        confirmed=known is not None,
        whole_file=hit == 0,
    )
