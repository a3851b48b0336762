"""Scripts, in ASCII or UTF-16 LE: a language's own words, never words of ordinary text.

One word proves nothing (a report may mention PowerShell). A script is a form that is nothing else
(``<?php``, ``powershell -enc``), or two different words of the same language in one value. From
its trigger a validator looks only as far as the next word: where that is the same again, the hit
there goes on, so that all hits of a value together read it once. A trigger is only the head of a
word; how it is spaced and quoted is told here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dicomguard.payloads.payload import Data, Payload

_REACH = 1 << 20
"""Bytes searched for a second word; half as many characters in UTF-16."""
_WIDE_STEP = 1 << 11
"""Bytes of UTF-16 that are narrowed at first; eight times as many where they do not decide."""
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
        last = min(hit + _REACH, high)
        length = self._length(data, hit, last) if width == 1 else self._wide_length(data, hit, last)
        if not length:
            return None
        words_end = min(hit + width * length, high)
        start, end = _text_around(data, hit, words_end, low, high, width=width)
        return Payload(
            start=start,
            end=end,
            description=self.name if width == 1 else f"{self.name} in UTF-16",
            confirmed=False,
            whole_file=start == 0,
        )

    def _length(self, text: Data, first: int, last: int) -> int | None:
        """Characters from the first word to the end of what proves the script; None if nothing.

        0 if only the text behind its end can tell.
        """
        word = self.words.match(text, first, last)
        if word is None:
            return None
        if word.lastgroup != "proof":
            second = self.words.search(text, word.end(), last)
            if second is None:
                return 0
            if second.lastgroup == word.lastgroup:
                return None
            word = second
        return word.end() - first

    def _wide_length(self, data: Data, hit: int, last: int) -> int | None:
        """The same in UTF-16 LE, of which no more is narrowed than it takes."""
        reach = _WIDE_STEP
        while True:
            text = data[hit : min(hit + reach, last) : 2]
            length = self._length(text, 0, len(text))
            if length != 0 or hit + reach >= last:
                return length
            reach *= 8


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


# What follows the name of a program: perhaps the quote behind its path, then blanks.
_RUN_WITH = r"(?:\.exe)?[\"']?[ \t]{1,64}"
_REQUEST = r"(?:iwr|irm|curl|wget|Invoke-(?:WebRequest|RestMethod))"

_POWERSHELL = _language(
    "PowerShell script",
    proof=(
        rf"(?:powershell|pwsh){_RUN_WITH}[-/](?:e[ncodema]*|e[cp]|ex[ecutionplcy]*|w[indowstyle]*"
        r"|no[a-z]{1,12}|c[omand]*|f[ile]*|sta|mta)[ \t:\"'{(&]"
        rf"|\b{_REQUEST}[ \t][^|\r\n\0]{{1,256}}\|[ \t]{{0,64}}(?:iex|Invoke-Expression)\b"
        rf"|\biex[ \t]{{0,64}}[(\"'&$][(\"'&$ \t]{{0,64}}(?:{_REQUEST}|New-Object)\b"
    ),
    base64=r"FromBase64String",
    invoke=r"Invoke-(?:Expression|WebRequest|RestMethod|Command|Shellcode|Mimikatz|WmiMethod)",
    client=r"Net\.WebClient",
    download=r"Download(?:String|File|Data)[ \t]{0,64}\(",
    new=r"New-Object[ \t]",
    start=r"Start-Process[ \t]",
    policy=r"-ExecutionPolicy[ \t]",
    hidden=r"-WindowStyle[ \t]{1,64}Hidden",
    load=r"Reflection\.Assembly\]::Load",
    type=r"Add-Type[ \t]",
    request=r"\b(?:iwr|irm)[ \t]{1,64}[\"']?(?:-|https?:)",
    iex=r"\bIEX[ \t]{0,64}[($&]|\|[ \t]{0,64}IEX\b",
)
_BATCH = _language(
    "batch script",
    proof=(
        r"@echo[ \t]{1,64}off[ \t]{0,64}[\r\n&]"
        r"|cmd(?:\.exe)?[\"']?[ \t]{0,64}/[ckr][ \t\"]{0,64}(?:start|powershell|pwsh|certutil"
        r"|bitsadmin|mshta|rundll32|regsvr32|wscript|cscript|curl)\b"
        rf"|\bcertutil{_RUN_WITH}[-/](?:urlcache|decode|decodehex)\b"
        rf"|\bmshta{_RUN_WITH}[\"']?(?:https?|javascript|vbscript):"
    ),
    comspec=r"%COMSPEC%",
    cmd=r"cmd(?:\.exe)?[\"']?[ \t]{0,64}/[ckqr][ \t\"]",
    setlocal=r"setlocal[ \t]{1,64}enable",
    certutil=rf"certutil{_RUN_WITH}[-/]f",
    bitsadmin=rf"bitsadmin{_RUN_WITH}/",
    registry=rf"\breg{_RUN_WITH}add[ \t]{{1,64}}\"?HK",
    schtasks=rf"schtasks{_RUN_WITH}/",
    regsvr=rf"regsvr32{_RUN_WITH}/",
    rundll=rf"rundll32{_RUN_WITH}",
    mshta=rf"mshta{_RUN_WITH}",
    shadow=rf"vssadmin{_RUN_WITH}delete",
    folder=r"%(?:~dp0|APPDATA%|TEMP%|PUBLIC%|USERPROFILE%)",
    powershell=rf"powershell{_RUN_WITH}",
    start=r"[\r\n&][ \t]{0,64}start[ \t]{1,64}(?:/|\"\")",
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
_CODE = (
    r"document\.(?:cookie|write|location)|window\.(?:location|open)|location\.href"
    r"|XMLHttpRequest|ActiveXObject|String\.fromCharCode"
    r"|\b(?:alert|eval|fetch|unescape|atob|function|import)\s{0,8}\("
)
_HTML = _language(
    "HTML with script",
    # A type that is no language is data to a browser (HTML section 4.12.1), and often vendors' XML.
    proof=(
        r"<script[\s/][^<>]{0,200}\b(?:(?:language|src|runat)\s{0,8}="
        r"|type\s{0,8}=\s{0,8}[\"']?(?:text/|application/|module\b))"
        r"|<hta:application\b"
        r"|\bon(?:error|load|click|focus|toggle|begin|start|mouse[a-z]{1,5}|pageshow|animation[a-z]{3,9})"
        rf"\s{{0,8}}=[^<>]{{0,40}}?(?:javascript:|{_CODE})"
    ),
    tag=r"<script[\s/]{0,8}>",
    url=r"javascript:",
    code=_CODE,
)
_PHP = _language(
    "PHP script",
    proof=(
        r"<\?php[\s(/]"
        r"|<\?=?\s{0,64}@?(?:eval|assert|exec|system|passthru|shell_exec|popen|proc_open|include"
        r"|include_once|require|require_once|base64_decode|call_user_func|phpinfo)\s{0,8}\("
        r"|<\?=\s{0,64}(?:\$_(?:GET|POST|REQUEST|COOKIE|SERVER|FILES)\b"
        r"|`[\t -_a-~]{1,256}`\s{0,8}(?:;|\?>))"
    ),
)
_SHELL = _language(
    "shell script",
    proof=(
        r"/dev/(?:tcp|udp)/[^\s/]{1,255}/\d"
        r"|-[a-z]{0,4}[ec][ \t]{1,64}[\"']?(?:/usr)?/bin/(?:ba|da|z|k|c)?sh\b"
    ),
    fetch=r"\b(?:curl|wget)[ \t]{1,64}[\"']?(?:-|https?://)",
    pipe=r"\|[ \t]{0,64}(?:/bin/|/usr/bin/)?(?:ba|da|z)?sh\b",
    mode=r"\bchmod[ \t]{1,64}(?:(?:[ugoa]{0,4}\+[rws]{0,2}x)|[0-7]{3,4})\b",
    decode=r"\bbase64[ \t]{1,64}(?:-d|--decode|-D)\b",
    interactive=r"/bin/(?:ba|da|z)?sh[ \t]{1,64}-[ic]\b",
    listen=r"\bmkfifo[ \t]|\bn(?:c|cat|etcat)[ \t]{1,64}-[a-z]{0,4}[el]",
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
    """A PHP script; ``hit`` is at its opening tag, short ones before a function's call included."""
    return _PHP.find(data, hit, low, high)


def shell(data: Data, hit: int, low: int, high: int) -> Payload | None:
    """A POSIX shell script without an interpreter line; ``hit`` is at one of its words."""
    return _SHELL.find(data, hit, low, high)


# --- The interpreter line: Linux execve(2), binfmt_script -----------------------------------------

_INTERPRETER_LINE = re.compile(rb"#![ \t]*(/[!-~]+)(?:[ \t][^\n\0]*|\r)?(?:\n|\0|\Z)")
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
