"""Scripts, in ASCII or UTF-16 LE: a language's own words, never words of ordinary text.

One word proves nothing (a report may mention PowerShell). A script is a form that is nothing else
(``<?php``, ``powershell -enc``), or two different words of the same language in one value. The
name of a program counts only where a command begins, for people write that they "ran cmd /c". From
its trigger a validator looks only as far as the next word: where that is the same again, the hit
there goes on, so that all hits of a value together read it once. A trigger is only the head of a
word; how it is spaced and quoted is told here.
"""

from __future__ import annotations

import re

from msgspec import Struct

from dicomguard.payloads.payload import Data, Payload
from dicomguard.regex import regex

_REACH = 1 << 20
"""Bytes searched for a second word; half as many characters in UTF-16."""
_WIDE_STEP = 1 << 11
"""Bytes of UTF-16 that are narrowed at first; eight times as many where they do not decide."""
_RUN = 1 << 12
"""Bytes of text on either side that are counted to the script."""

# Runs of text by width of a character. The one behind a place is matched on reversed bytes, and
# takes the byte order mark of UTF-16 with it.
_TEXT_AHEAD = {
    1: regex(rb"(?:[\t\n\f\r\x20-\x7e]|[\x80-\xff]{1,8}(?=[\t\n\f\r\x20-\x7e]))*"),
    2: regex(rb"(?:[\t\n\f\r\x20-\x7e]\0)*"),
}
_TEXT_BEHIND = {
    1: regex(rb"[\t\n\f\r\x20-\x7e]*"),
    2: regex(rb"(?:\0[\t\n\f\r\x20-\x7e])*(?:\xfe\xff)?"),
}


_BEFORE = 80
"""Bytes before a word that tell whether a command begins with it."""
_COMMAND_BEGINS = regex(
    rb"(?:\A|[^\t\x20-\x7e]|[;&|(){}=,@>`\"'\[]"
    rb"|(?:[/-][ck]|\b(?i:start|call|sudo|nohup|do|then|else|echo|&))[ \t])"
    rb"[\s\"'@(&]*(?:[A-Za-z]:)?(?:[\w.%~$:-]*[\\/])*\Z"
)
"""What stands between the start of a command and its program: quotes, a path."""


def _is_proof(word: re.Match[bytes]) -> bool:
    return word.lastgroup in ("proof", "at_proof")


class _Language(Struct, frozen=True):
    """A scripting language by its words.

    Attributes:
        name: For people.
        words: Alternatives, each a named group. The groups ``proof`` and ``at_proof`` are forms
            that are a script by themselves; of the others two different ones are needed. Those
            whose name begins with ``at_`` count only where a command begins.
    """

    name: str
    words: re.Pattern[bytes]

    def find(self, data: Data, hit: int, low: int, high: int) -> Payload | None:
        """The script whose word is at ``hit``, within the value."""
        high = min(high, len(data))
        width = 2 if data[hit + 1 : hit + 2] == b"\0" else 1
        last = min(hit + _REACH, high)
        before = data[max(low, hit - width * _BEFORE) : hit]
        if width == 1:
            length = self._length(before, data, hit, last)
        else:
            length = self._wide_length(before[-2::-2][::-1], data, hit, last)
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

    def _length(self, before: bytes, text: Data, first: int, last: int) -> int | None:
        """Characters from the first word to the end of what proves the script; None if nothing.

        0 if only the text behind its end can tell.
        """
        word = self.words.match(text, first, last)
        if word is None or not self._counts(word, before):
            return None
        if _is_proof(word):
            return word.end() - first
        for second in self.words.finditer(text, word.end(), last):
            if self._counts(second, text[max(first, second.start() - _BEFORE) : second.start()]):
                if second.lastgroup == word.lastgroup:
                    return None
                return second.end() - first
        return 0

    def _counts(self, word: re.Match[bytes], before: bytes) -> bool:
        """Whether a word is where it must be."""
        is_command = (word.lastgroup or "").startswith("at_")
        return not is_command or _COMMAND_BEGINS.search(before) is not None

    def _wide_length(self, before: bytes, data: Data, hit: int, last: int) -> int | None:
        """The same in UTF-16 LE, of which no more is narrowed than it takes."""
        reach = _WIDE_STEP
        while True:
            text = data[hit : min(hit + reach, last) : 2]
            length = self._length(before, text, 0, len(text))
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
    return _Language(name=name, words=regex(alternatives.encode(), re.IGNORECASE))


# What follows the name of a program: perhaps the quote behind its path, then blanks.
_RUN_WITH = r"(?:\.exe)?[\"']?[ \t]{1,64}"
_REQUEST = r"(?:iwr|irm|curl|wget|Invoke-(?:WebRequest|RestMethod))"
_POWERSHELL_OPTION = (
    r"[-/](?:w[indowstyle]*[ \t:]{1,8}(?:h|1)[a-z]*|no[a-z]{1,12}|sta|mta|c[omand]*"
    r"|e[ncodema]*|e[cp]|ex[ecutionplcy]*[ \t:]{1,8}[\"']?(?:bypass|unrestricted))"
)

POWERSHELL = _language(
    "PowerShell script",
    proof=(
        rf"(?:powershell|pwsh){_RUN_WITH}[^\r\n\0]{{0,200}}?[-/]e[ncodema]{{0,13}}"
        r"[ \t:]{1,8}[\"']?[A-Za-z0-9+/]{4}"
        rf"|(?:powershell|pwsh){_RUN_WITH}(?:{_POWERSHELL_OPTION}[ \t]{{1,8}}){{2}}"
        rf"|(?:powershell|pwsh){_RUN_WITH}[^\r\n\0]{{0,100}}?[-/]w[indowstyle]{{0,10}}"
        r"[ \t:]{1,8}hid"
        rf"|\b{_REQUEST}[ \t][^|\r\n\0]{{1,256}}\|[ \t]{{0,64}}(?:iex|Invoke-Expression)\b"
        rf"|\biex[ \t]{{0,64}}[(\"'&$][(\"'&$ \t]{{0,64}}(?:{_REQUEST}|New-Object)\b"
    ),
    at_proof=(rf"(?:powershell|pwsh){_RUN_WITH}[-/]c[omand]{{0,6}}[ \t:]{{1,8}}[\"'{{(&$]"),
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
BATCH = _language(
    "batch script",
    proof=(
        r"@echo[ \t]{1,64}off[ \t]{0,64}[\r\n&]"
        rf"|\bcertutil{_RUN_WITH}[-/](?:urlcache|decode|decodehex)\b[^\r\n\0]{{0,200}}?(?:[\\/]|\.\w)"
        rf"|\bmshta{_RUN_WITH}[\"']?(?:https?|javascript|vbscript):"
        rf"|\brundll32{_RUN_WITH}[\"']?javascript:|\bregsvr32{_RUN_WITH}[^\r\n\0]{{0,60}}?/i:https?:"
        rf"|\bbitsadmin{_RUN_WITH}/transfer[ \t]|\bvssadmin{_RUN_WITH}delete[ \t]{{1,8}}shadows"
    ),
    at_proof=(
        r"cmd(?:\.exe)?[\"']?[ \t]{0,64}/[ckr][ \t\"]{0,64}(?:start|powershell|pwsh|certutil"
        r"|bitsadmin|mshta|rundll32|regsvr32|wscript|cscript|curl)\b"
    ),
    comspec=r"%COMSPEC%",
    at_cmd=r"cmd(?:\.exe)?[\"']?[ \t]{0,64}/[ckqr][ \t\"]",
    setlocal=r"setlocal[ \t]{1,64}enable",
    at_certutil=rf"certutil{_RUN_WITH}[-/]f",
    at_bitsadmin=rf"bitsadmin{_RUN_WITH}/",
    registry=rf"\breg{_RUN_WITH}add[ \t]{{1,64}}\"?HK",
    at_schtasks=rf"schtasks{_RUN_WITH}/",
    at_regsvr=rf"regsvr32{_RUN_WITH}/",
    at_rundll=rf"rundll32{_RUN_WITH}",
    at_mshta=rf"mshta{_RUN_WITH}",
    folder=r"%(?:~dp0|APPDATA%|TEMP%|PUBLIC%|USERPROFILE%)",
    at_powershell=rf"powershell{_RUN_WITH}",
    start=r"[\r\n&][ \t]{0,64}start[ \t]{1,64}(?:/|\"\")",
)
WINDOWS_SCRIPT = _language(
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
# What reports do not do: run text, reach out, leave the page.
_HOSTILE = (
    r"(?:\b(?:eval|atob|unescape|alert|fetch|import|importScripts|GetObject)\s{0,8}[(\"']|\bnew\s{1,8}(?:Function|ActiveXObject|XMLHttpRequest|WebSocket|Image)\b"
    r"|ActiveXObject|WScript\.|String\.fromCharCode|sendBeacon|document\.(?:cookie|domain|location)"
    r"|(?:window|self|top|parent)\.location\s{0,4}=|location\.(?:href|replace|assign)\s{0,4}[=(])"
)
_LIBRARIES = (
    r"(?:[\w-]{1,20}\.){0,2}(?:jquery\.com|jsdelivr\.net|unpkg\.com|cloudflare\.com|googleapis\.com"
    r"|plot\.ly|bootstrapcdn\.com|d3js\.org|mathjax\.org)/"
)
"""Where reports fetch what they are made with."""
HTML = _language(
    "HTML with script",
    proof=(
        rf"<script\b[^<>]{{0,200}}>(?:(?!</script)[^\0]){{0,1024}}?{_HOSTILE}"
        r"|<script\b[^<>]{0,200}\bsrc\s{0,8}=\s{0,8}[\"']?(?:(?:data|javascript|ftp|file):|\\\\"
        rf"|(?:https?:)?//(?!{_LIBRARIES}))"
        r"|<hta:application\b"
        r"|\bon(?:error|load|click|focus|toggle|begin|start|mouse[a-z]{1,5}|pageshow|animation[a-z]{3,9})"
        rf"\s{{0,8}}=[^<>]{{0,200}}?(?:javascript:|{_HOSTILE})"
        rf"|javascript:[^\s<>]{{0,200}}?{_HOSTILE}"
    ),
)
PHP = _language(
    "PHP script",
    proof=(
        r"<\?php[\s(/]"
        r"|<\?=?\s{0,64}@?(?:eval|assert|exec|system|passthru|shell_exec|popen|proc_open|include"
        r"|include_once|require|require_once|base64_decode|call_user_func|phpinfo)\s{0,8}\("
        r"|<\?=\s{0,64}(?:\$_(?:GET|POST|REQUEST|COOKIE|SERVER|FILES)\b"
        r"|`[\t -_a-~]{1,256}`\s{0,8}(?:;|\?>))"
    ),
)
SHELL = _language(
    "shell script",
    proof=(
        r"/dev/(?:tcp|udp)/[^\s/]{1,255}/\d"
        r"|-[a-z]{0,4}[ec][ \t]{1,64}[\"']?(?:/usr)?/bin/(?:ba|da|z|k|c)?sh\b"
        r"|(?:curl|wget|fetch)[ \t][^\r\n\0|]{0,200}?(?:https?|ftp)://[^\r\n\0|]{1,200}\|"
        r"[ \t]{0,64}(?:sudo[ \t]{1,8})?(?:/\S{1,40}/)?(?:ba|da|z|k)?sh\b"
        r"(?=[ \t]{0,8}(?:-|[;|&)\"'`\r\n\0]|$))"
    ),
    at_proof=(
        r"(?:python[\d.]{0,4}|perl|ruby|php|node|lua)(?:\.exe)?[ \t]{1,64}"
        r"-(?:c|e|r|-eval|M\S{1,40}[ \t]{1,8}-e)[ \t]{1,64}[\"'$]"
    ),
    fetch=r"\b(?:curl|wget)[ \t][^\r\n\0]{0,200}?(?:https?|ftp)://",
    pipe=r"\|[ \t]{0,64}(?:/bin/|/usr/bin/)?(?:ba|da|z)?sh\b",
    mode=(
        r"\bchmod[ \t]{1,64}(?:(?:[ugoa]{0,4}\+[rws]{0,2}x)|[0-7]{3,4})[ \t]{1,64}[\"']?"
        r"(?:[/.~$]|\w{1,80}(?:\.\w|[;&|\s]))"
    ),
    decode=r"\bbase64[ \t]{1,64}(?:-d|--decode|-D)(?![\w-])",
    interactive=r"/bin/(?:ba|da|z)?sh[ \t]{1,64}-[ic]\b",
    listen=r"\bmkfifo[ \t]|\bn(?:c|cat|etcat)[ \t]{1,64}-[a-z]{0,4}[el]",
    wipe=r"\brm[ \t]{1,64}-[rf]{1,4}[ \t]{1,64}[\"']?[/.~$*]",
    quiet=r">[ \t]{0,8}/dev/null[ \t]{1,8}2>&1|\bnohup[ \t]",
)
PYTHON = _language(
    "Python script",
    proof=(
        r"\b(?:exec|eval)\([ \t]{0,8}(?:zlib\.decompress\(|marshal\.loads\(|compile\()?[ \t]{0,8}"
        r"(?:__import__\([\"']base64[\"']\)|base64|codecs)\.(?:b(?:64|85|32|16)?decode|urlsafe_b64decode"
        r"|decode)\("
        r"|__import__\([\"'](?:os|subprocess|pty|socket|ctypes)[\"']\)\.\w{2,20}\("
    ),
    run=(
        r"\b(?:os\.(?:system|popen|exec[lv]p?e?|spawn\w{1,5})|pty\.spawn"
        r"|subprocess\.(?:call|run|Popen|check_(?:output|call)|getoutput))\("
    ),
    module=(
        r"\b(?:import|from)[ \t]{1,8}(?:os|sys|subprocess|socket|pty|ctypes|base64|urllib|requests"
        r"|zlib|marshal)\b"
    ),
    code=r"\b(?:exec|eval)\(",
    decode=r"\bb64decode\(|marshal\.loads\(",
    net=r"\b(?:urlopen|urlretrieve|socket\.socket)\(",
    native=r"\bctypes\.(?:windll|CDLL|cdll|memmove|CFUNCTYPE)",
)
PERL = _language(
    "Perl script",
    proof=r"\beval[ \t]{0,8}\(?[ \t]{0,8}(?:unpack|decode_base64|pack)[ \t(]",
    use=r"\buse[ \t]{1,8}(?:strict|warnings|IO::Socket|Socket|MIME::Base64|LWP)\b[^;\r\n\0]{0,80};",
    call=(
        r"\b(?:system|exec)[ \t]{0,8}\(?[ \t]{0,8}(?:\"[^\"\r\n\0]{1,200}\"|'[^'\r\n\0]{1,200}')"
        r"[ \t]{0,8}[,);]|\bqx[{(/]"
    ),
    socket=r"\bIO::Socket::INET->new",
)
NODE = _language(
    "JavaScript for Node.js",
    proof=r"require[ \t]{0,4}\([ \t]{0,4}[\"'](?:node:)?child_process[\"'][ \t]{0,4}\)",
)


# --- The interpreter line: Linux execve(2), binfmt_script -----------------------------------------

_INTERPRETER_LINE = regex(rb"#![ \t]*(/[!-~]+)(?:[ \t][^\n\0]*|\r)?(?:\n|\0|\Z)")
_INTERPRETER_LINE_MAX = 256
_INTERPRETERS = regex(
    rb"(env|a?sh|ba?sh|da?sh|[ckz]sh|mksh|fish|busybox|perl|python|pypy|ruby|php|node|lua|tclsh"
    rb"|[gmn]?awk|g?sed|make|osascript|pwsh|expect|java)(?:[-\d.][!-~]*)?\Z"
)


_LINE_BEFORE = 4
"""Printable bytes that may stand before a line by chance, behind what is no text."""
_SYSTEM_FOLDER = regex(rb"/(?:usr/(?:local/)?)?s?bin/[^/]+\Z")
_SECOND_LINE = regex(rb"[\t\x20-\x7e]{2,}")


def _begins_line(data: Data, hit: int, low: int, high: int, line: re.Match[bytes]) -> bool:
    """Whether a known interpreter's line begins a script in the middle of a value."""
    if not _SYSTEM_FOLDER.match(line[1]) or not _INTERPRETERS.match(line[1].rpartition(b"/")[2]):
        return False
    if not line[0].endswith(b"\n") or not _SECOND_LINE.match(data, line.end(), high):
        return False
    before = data[max(low, hit - _LINE_BEFORE) : hit]
    return before[-1:] in b"\r\n" or any(not 0x20 <= byte < 0x7F for byte in before)


def shebang(data: Data, hit: int, low: int, high: int) -> Payload | None:
    """A script with an interpreter line; ``hit`` is at its ``#!``.

    At the very start of the value or of the data any interpreter counts, as systems obey it there.
    Behind other bytes it must be a known one of a system's folder, at the start of a line.
    """
    high = min(high, len(data))
    is_start = hit in (0, low)
    line = _INTERPRETER_LINE.match(data, hit, min(hit + _INTERPRETER_LINE_MAX, high))
    if line is None or not (is_start or _begins_line(data, hit, low, high, line)):
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
