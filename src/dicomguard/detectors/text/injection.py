"""Text that is code to whatever shows, stores, logs, evaluates or summarises it.

People quote code in prose, and abbreviations look like commands ("brain & echo", "chest;nc"). So
what counts is never a word but the form in which it would run: a tag with code behind it, a
tautology, a command with an operand.
"""

from __future__ import annotations

from msgspec.structs import replace

from dicomguard.detectors.text.signs import END, START, Scope, exploit, sign
from dicomguard.model import Confidence, Severity

XSS = exploit(
    "TXT-XSS",
    "Active HTML in a text value",
    Severity.HIGH,
    "A web viewer or worklist that shows the value as it is runs it in its user's browser.",
    "CWE-79",
    "T1059.007",
)
SQL = exploit(
    "TXT-SQLI",
    "SQL in a text value",
    Severity.HIGH,
    "A database that builds its statements from values runs it.",
    "CWE-89",
    "T1190",
)
QUERY = exploit(
    "TXT-LDAP",
    "Directory or document query in a text value",
    Severity.MEDIUM,
    "A look-up by LDAP, XPath or a document database that is built from values runs it.",
    "CWE-90, CWE-643, CWE-943",
    "T1190",
)
JNDI = exploit(
    "TXT-JNDI",
    "Lookup expression in a text value",
    Severity.CRITICAL,
    "An unpatched Java service that logs the value loads code from where it points.",
    "CVE-2021-44228",
    "T1190",
)
TEMPLATE = exploit(
    "TXT-TEMPLATE",
    "Template expression in a text value",
    Severity.MEDIUM,
    "A report generator that fills values into templates before it reads them runs it.",
    "CWE-1336",
    "T1190",
)
ANSI = exploit(
    "TXT-ANSI",
    "Terminal control sequence in a text value",
    Severity.HIGH,
    "A terminal that prints the value obeys it. Honest escapes switch character sets only.",
    "CWE-150",
)
FORMULA = exploit(
    "TXT-CSV",
    "Spreadsheet command in a text value",
    Severity.HIGH,
    "A spreadsheet that opens an exported list runs it.",
    "CWE-1236",
)
FETCHING_FORMULA = replace(FORMULA, severity=Severity.MEDIUM)
"""One that only fetches or links."""
SHELL = exploit(
    "TXT-SHELL",
    "Shell command in a text value",
    Severity.HIGH,
    "Receivers put such values into commands and file names.",
    "CVE-2026-5663, CVE-2024-27629",
    "T1059.004",
)
EVAL = exploit(
    "TXT-EVAL",
    "Number that is code",
    Severity.HIGH,
    "Software that evaluates numbers instead of reading them runs it.",
    "CVE-2024-42845",
    "T1059",
)
FORMAT = exploit(
    "TXT-FMT",
    "Format directives in a text value",
    Severity.LOW,
    "Native software that prints the value as a format reads or writes its own memory.",
    "CWE-134",
)
MARKDOWN = exploit(
    "TXT-MD",
    "Remote image in Markdown",
    Severity.MEDIUM,
    "A viewer that renders the text fetches the image, and tells its server what it was asked.",
    "CWE-200",
)
PROMPT = exploit(
    "TXT-PROMPT",
    "Instructions to a language model",
    Severity.MEDIUM,
    "A model that summarises or reads the text may follow it. Pixels may hold such text as well:"
    " nobody reads those here.",
    "Clusmann et al., Nat Commun 16:1239 (2025)",
)
PROMPT_LIKE = replace(PROMPT, confidence=Confidence.WEAK)
"""What a person might say to another as well."""

_GAP = rb"(?:\s|/\*[^\0]{0,20}?\*/|\+){1,16}"
"""White space of SQL, and what passes for it."""
_MAYBE = rb"(?:" + _GAP + rb")?"

_HANDLER = (
    rb"on(?:error|load(?:start|end)?|unload|click|dblclick|focus(?:in|out)?|blur|toggle|begin|start"
    rb"|end|finish|mouse[a-z]{2,5}|pointer[a-z]{2,7}|key(?:down|up|press)"
    rb"|pageshow|animation[a-z]{3,9}|transition[a-z]{3,6}|change|input|submit|resize|scroll|wheel|show|play|canplay)"
)
_CODE_AHEAD = (
    rb"\s{0,16}(?:<!--|/[/*]|[\"'`({\[!]|[\w$.\[\]]{1,80}\s{0,4}[(=`]"
    rb"|(?:var|let|const|new|if|for|try|function|throw|import|void|typeof)\b\s{0,4}[\w$({\"'])"
)
_JAVASCRIPT = (
    rb"(?:"
    + rb"[\t\r\n]{0,4}".join(b"%c" % byte for byte in b"java")
    + rb"|vb)[\t\r\n]{0,4}script\s{0,8}:[^\s\0]{0,80}?[(=`]"
)

_UNMISTAKABLE = (
    rb"(?:sudo|curl|wget|ncat|netcat|nc|bash|sh|zsh|dash|rm|cat|chmod|chown|python[\d.]{0,4}|perl"
    rb"|ruby|php|touch|mkfifo|tee|dd|powershell(?:\.exe)?|pwsh|cmd(?:\.exe)?|certutil|bitsadmin"
    rb"|mshta|rundll32|regsvr32|start|echo|printf|ping|cp|mv|ln|kill|reboot|shutdown|id|whoami"
    rb"|uname|env|export|sleep|find|xargs|eval|exec|source|nohup|exit)"
)
_OPERAND = (
    rb"\s{1,8}(?:-{1,2}[a-z][\w-]{0,20}(?:\s{1,4}|=)\S{0,40}?[/:.\"'\\]"
    rb"|[\"']?(?:https?|ftp|tftp)://|[\"']?(?:~|\.{1,2})?/\w|>{1,2}\s?[/.~\w]|/[ck]\s)"
)
_ALONE = (
    rb"(?:id|whoami|uname|reboot|poweroff|env)\b\s{0,4}(?=[;|&>#\0)`]|\Z)"
    rb"|(?:curl|wget|bash|touch|mkfifo|chmod|python\d?|perl|powershell|ncat)\b\s{1,4}\S"
    rb"|sleep\s{1,4}\d|(?:/usr)?/bin/\w"
)
_SQL_END = rb"(?:--|;|#|/\*)"

SIGNS = (
    sign(
        XSS, Scope.PUBLIC, b"<",
        rb"<\s{0,8}script\b[^>\0]{0,200}>" + _CODE_AHEAD,
        rb"<\s{0,8}script\b[^>\0]{0,200}\bsrc\s{0,8}=\s{0,8}[\"']?(?:\w{1,10}:|//|\\\\)",
        rb"<\s{0,8}[a-z][\w:-]{0,20}\b[^>\0]{0,200}?[\s/\"']" + _HANDLER + rb"\s{0,8}=",
    ),
    sign(
        XSS, Scope.SHORT, b"<",
        rb"<\s{0,8}/?script[\s/>]",
        rb"<\s{0,8}(?:img|svg|iframe|object|embed|video|audio|form|a|base|link|meta|math)\b"
        rb"[^>\0]{1,200}?(?:src|href|srcdoc|data|action|http-equiv)\s{0,8}=",
    ),
    sign(
        XSS, Scope.PUBLIC, b"script data",
        _JAVASCRIPT, rb"data\s{0,8}:\s{0,8}text/html\s{0,8}[;,]",
    ),
    sign(
        SQL, Scope.PUBLIC, b"'",
        # A condition that is always true, or one behind which the rest is a comment
        rb"'\s{0,8}\)*" + _MAYBE + rb"(?:(?:or|and)\b|\|\||&&)" + _MAYBE
        + rb"\(*(?:['\"]?(\w{1,20})['\"]?\s{0,4}(?:=|like|<=>|>=|<=)\s{0,4}['\"]?\1\b"
        rb"|''\s{0,4}=\s{0,4}')",
        rb"'\s{0,8}\)*\s{0,8}(?:or|and|\|\|)\b[^'\0]{0,60}?(?:--|#|/\*)" + END,
        rb"'\s{0,8}\)*\s{0,8};\s{0,8}(?:drop|insert|update|delete|exec|execute|shutdown|alter"
        rb"|truncate|declare|create|select|grant|merge|call)" + _GAP + rb"\w",
    ),
    sign(
        SQL, Scope.PUBLIC, b";",
        rb";\s{0,8}(?:drop|alter|create|truncate)" + _GAP
        + rb"(?:table|database|user|login|schema|view|procedure)" + _GAP
        + rb"[\w.\[\]\"`]{1,64}\s{0,8}" + _SQL_END,
        rb";\s{0,8}(?:insert" + _GAP + rb"into|delete" + _GAP + rb"from"
        rb"|update" + _GAP + rb"\w{1,64}" + _GAP + rb"set)\b[^\0]{1,200}?"
        rb"(?:--|/\*|\bvalues\s{0,8}\(|\bwhere" + _GAP + rb"\S{1,64}?\s{0,4}[=<>])",
        rb";\s{0,8}exec(?:ute)?" + _GAP + rb"(?:[xs]p_|master|\()",
        rb";\s{0,8}shutdown\s{0,4}(?:--|with\s{1,4}nowait)",
    ),
    sign(
        SQL, Scope.PUBLIC, b"union",
        rb"\bunion" + _GAP + rb"all" + _GAP + rb"select\b",
        rb"(?:['\")\d]" + _GAP + rb"|/\*!?\d*)union" + _GAP + rb"(?:distinct" + _GAP + rb")?"
        rb"select\b",
        rb"\bunion" + _GAP + rb"select" + _GAP
        + rb"(?:null\b|[\d'\"@(*]|[\w.]{1,64}\s{0,4},|[\w.]{1,64}\s{1,4}from\b)",
    ),
    sign(
        SQL, Scope.PUBLIC,
        b"xp_cmd waitfor sleep benchmark load_file outfile dumpfile schema utl_ dbms",
        rb"\bxp_cmdshell\b|waitfor" + _GAP + rb"delay" + _GAP + rb"'|\b(?:pg_sleep|load_file)\s?\("
        rb"|(?:and|or|select|if|,|\()\W{0,8}sleep\s?\(\s?\d|\bbenchmark\s?\(\s?\d{3,},"
        rb"|\binto" + _GAP + rb"(?:out|dump)file" + _GAP + rb"['\"]|\binformation_schema\.\w"
        rb"|\butl_(?:http|inaddr)\.|\bdbms_\w{3,20}\.",
    ),
    sign(
        QUERY, Scope.PUBLIC, b")( $",
        rb"\*\)\s{0,4}\(\s{0,4}(?:[|&!]|\w{1,32}\s{0,4}=)", rb"\)\(\s{0,4}[|&]\s{0,4}\(",
        rb"\{\s{0,4}[\"']?\$(?:ne|gte?|lte?|n?in|where|regex|exists|expr|function)\b[\"']?\s{0,4}:",
    ),
    sign(
        QUERY, Scope.PUBLIC, b"'",
        rb"['\"]\s{0,4}(?:or|and|\])\s{0,4}(?:count|name|string-length|substring|contains|position)"
        rb"\s{0,4}\(",
    ),
    sign(JNDI, Scope.ANY, b"${", rb"\$\{[^}\0]{0,60}?(?:jndi|lower:|upper:|base64:|::-)|\$\{\$\{"),
    sign(JNDI, Scope.PUBLIC, b"${", rb"\$\{[^}\0]{0,60}?(?:env|sys|java|ctx|main|bundle|date):"),
    sign(
        TEMPLATE, Scope.PUBLIC, b"{{ {% <% #{ ${ *{",
        rb"\{\{[^{}\0]{0,80}?(?:[*(|]|__)[^{}\0]{0,80}\}\}",
        rb"\{%-?\s{0,8}(?:import|for|if|set|include|extends|macro|raw|block|load|debug)\b"
        rb"[^%\0]{0,200}%\}",
        rb"<%[=@!]?[^%\0]{0,200}[*(.;][^%\0]{0,200}%>",
        rb"[#$*]\{[^{}\0]{0,80}[*(][^{}\0]{0,80}\}",
    ),
    sign(ANSI, Scope.ANY, b"\x1b", rb"\x1b[\[\]PX^_c]"),
    # As C1 characters, which mojibake also holds: with parameters
    sign(
        ANSI, Scope.PUBLIC, b"\xc2",
        rb"\xc2\x9b[\d;?]{1,16}[A-HJKSTfhlmnsu]|\xc2\x9d\d{1,4};", cased=True,
    ),
    sign(
        FORMULA, Scope.ANY, b"|",
        START + rb"[=+\-@][^\0\\]{0,80}?\b(?:cmd|powershell|mshta|regsvr32|rundll32|msexcel|winword"
        rb"|wscript|cscript|certutil|calc)(?:\.exe)?\s{0,8}\|\s{0,8}['\"]?[^\0]{0,200}?!",
    ),
    sign(
        FETCHING_FORMULA, Scope.PUBLIC, b"(",
        START + rb"[=+\-@]\s{0,8}(?:hyperlink|webservice|import(?:xml|data|html|feed|range)|image"
        rb"|filterxml|rtd|dde|call|register\.id|exec)\s{0,8}\(",
    ),
    sign(
        SHELL, Scope.PUBLIC, b"$( ` | ; &",
        rb"\$\(\s{0,8}" + _UNMISTAKABLE + rb"\b[^)\0]{0,200}\)",
        rb"`\s{0,8}" + _UNMISTAKABLE + rb"\b[^`\0]{0,200}`",
        rb"(?:;|\|\|?|&&?)\s{0,8}(?:/\S{1,40}/)?" + _UNMISTAKABLE + _OPERAND,
        rb"\b(?:curl|wget|fetch|echo|cat|base64|printf|xxd)\b[^\0\n|]{1,200}\|\s{0,8}(?:sudo\s)?"
        rb"(?:/\S{1,40}/)?(?:ba|da|z|k)?sh\b(?=\s{0,4}(?:-|[;|&\0]|\Z))",
        cased=True,
    ),
    sign(
        SHELL, Scope.CODED, b"; | & ` %comspec% cmd powershell /bin/",
        rb"(?:;|\|\|?|&&)\s{0,8}(?:" + _ALONE + rb")",
        rb"%(?i:comspec)%|\b(?i:cmd\.exe|powershell)\b|/bin/(?:ba)?sh\b",
        cased=True,
    ),
    sign(
        SHELL, Scope.SHORT, b"powershell cmd /bin/",
        rb"\bpowershell(?:\.exe)?\s{1,8}[-/]\w|\bcmd(?:\.exe)?\s{1,8}/[ck]\s|/bin/(?:ba|da|z)?sh\b",
    ),
    sign(
        EVAL, Scope.NUMBERS, b"( lambda import __",
        # Numbers that Python software wrote as it prints them are honest.
        rb"(?<![\w.])(?!(?:np|numpy|torch)\.|decimal|array|tensor|ds(?:float|decimal)|is\b|float"
        rb"|u?int\d)[a-z_][\w.]{0,64}\(|__\w|\blambda\b|\bimport\s",
    ),
    sign(
        FORMAT, Scope.PUBLIC, b"%",
        rb"(?:%(?:\d{1,3}\$)?[lh]{0,2}[npsx]){3,}|%\d{0,5}\$?h{0,2}n[^\0]{0,40}%[\d$lhnpsx]",
    ),
    sign(MARKDOWN, Scope.PUBLIC, b"](", rb"!\[[^\]\0]{0,100}\]\(\s{0,4}https?://"),
    sign(
        PROMPT, Scope.ANY, b"<| [inst] [/inst] ### <<sys>>",
        rb"<\|(?:im_(?:start|end|sep)|system|user|assistant|endoftext|eot_id|start_header_id)\|>"
        rb"|\[/?INST\]|<</?SYS>>"
        rb"|###\s{0,4}(?:System|Instructions?|Assistant|Human|User)\s{0,4}:",
    ),
    sign(
        PROMPT, Scope.PUBLIC, b"instruction prompt assistant",
        rb"\b(?:ignore|disregard|forget|override|bypass)\b[^.\0]{0,40}\b(?:instructions?|prompts?"
        rb"|directives?)\b[^\0]{0,80}?\b(?:report (?:no|normal|that)|system prompt|say|respond"
        rb"|reply|output|answer|you are|act as|reveal|print)\b",
        rb"\b(?:reveal|print|show|repeat|leak)\b[^.\0]{0,40}\bsystem prompt\b",
        rb"\byou are (?:now )?(?:an? )?(?:helpful|ai|assistant|language model|chatgpt|gpt|llm)\b",
        START
        + rb"(?:assistant|system)\s{0,4}:[^\0]{0,200}\b(?:ignore|disregard|forget|instructions?)\b",
    ),
    sign(
        PROMPT_LIKE, Scope.PUBLIC, b"instruction prompt",
        rb"\b(?:ignore|disregard|forget|override)\b[^.\0]{0,24}"
        rb"\b(?:previous|prior|above|preceding|all)\b[^.\0]{0,24}\b(?:instructions?|prompts?)\b",
    ),
)  # fmt: skip

KINDS = tuple(dict.fromkeys(each.kind for each in SIGNS))
