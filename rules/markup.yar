// XML and web pages that reach outside or run something.
//
// A trigger only asks the question; the validator that `meta` names answers it.

rule external_entity
{
    meta:
        id         = "EMB-XML-XXE"
        title      = "XML that reads files or addresses"
        category   = "exploit"
        severity   = "high"
        confidence = "strong"
        validator  = "external_entity"
        where      = "printable"
        attack     = "T1005"
        reference  = "CWE-611"
        why        = "Whatever reads this XML with entities switched on hands a file of its machine to the sender, or calls an address. Check that no system behind reads it so."
    strings:
        $entity = "<!ENTITY"
    condition:
        $entity
}

rule entity_bomb
{
    meta:
        id         = "EMB-XML-BOMB"
        title      = "XML that expands without end"
        category   = "exploit"
        severity   = "high"
        confidence = "strong"
        validator  = "entity_bomb"
        where      = "printable"
        attack     = "T1499.004"
        reference  = "CWE-776"
        why        = "Whatever expands the entities of this XML runs out of memory. Check that no system behind reads it so."
    strings:
        $entity = "<!ENTITY"
    condition:
        $entity
}

rule stylesheet
{
    meta:
        id         = "EMB-XML-STYLESHEET"
        title      = "XML with a stylesheet from elsewhere"
        category   = "exploit"
        severity   = "high"
        confidence = "strong"
        validator  = "stylesheet"
        where      = "printable"
        attack     = "T1220"
        reference  = "Associating Style Sheets with XML documents 1.0"
        why        = "A viewer loads the stylesheet from an address that somebody else controls, and shows or runs what comes. Use the stylesheet of your own system."
    strings:
        $instruction = "<?xml-stylesheet"
    condition:
        $instruction
}

rule xinclude
{
    meta:
        id         = "EMB-XML-XINCLUDE"
        title      = "XML that includes files"
        category   = "exploit"
        severity   = "high"
        confidence = "strong"
        validator  = "xinclude"
        where      = "printable"
        attack     = "T1005"
        reference  = "CWE-611"
        why        = "Whatever reads this XML with inclusion switched on puts a file of its machine into it. Check that no system behind reads it so."
    strings:
        $y2001 = "http://www.w3.org/2001/XInclude"
        $y2003 = "http://www.w3.org/2003/XInclude"
    condition:
        any of them
}

rule xslt
{
    meta:
        id         = "EMB-XML-SCRIPT"
        title      = "Stylesheet that runs code"
        category   = "exploit"
        severity   = "high"
        confidence = "strong"
        validator  = "xslt"
        where      = "printable"
        attack     = "T1220"
        reference  = "CWE-94"
        why        = "A transformation that runs code runs it with the rights of whatever shows the document. Isolate the file and read the stylesheet."
    strings:
        $y1999 = "http://www.w3.org/1999/XSL/Transform"
        $draft = "http://www.w3.org/TR/WD-xsl"
    condition:
        any of them
}

rule xaml
{
    meta:
        id         = "EMB-XAML"
        title      = "XAML that calls the system"
        category   = "exploit"
        severity   = "high"
        confidence = "strong"
        validator  = "xaml"
        where      = "printable"
        attack     = "T1127"
        reference  = "CWE-502"
        why        = "Loading this XAML runs a method of the system: a program starts. Isolate the file and find out which .NET software read it."
    strings:
        $provider = "ObjectDataProvider"
        $factory  = "x:FactoryMethod"
    condition:
        any of them
}

rule page
{
    meta:
        id         = "EMB-SCRIPT"
        title      = "Web page or drawing with script"
        category   = "malware"
        severity   = "high"
        confidence = "strong"
        validator  = "page"
        where      = "printable"
        attack     = "T1059.007"
        reference  = "HTML section 4.12.1"
        why        = "A browser or a viewer that shows the text as a page or a drawing runs its script. Isolate the file and find out which system it came from."
    strings:
        $svg   = "http://www.w3.org/2000/svg"
        $xhtml = "http://www.w3.org/1999/xhtml"
    condition:
        any of them
}

rule web_archive
{
    meta:
        id         = "EMB-HTML"
        title      = "Web archive with script"
        category   = "malware"
        severity   = "high"
        confidence = "strong"
        validator  = "web_archive"
        where      = "printable"
        attack     = "T1059.007"
        reference  = "RFC 2557"
        why        = "Windows opens a web archive in a browser and runs its script. Isolate the file and find out which system it came from."
    strings:
        $version = "MIME-Version:" nocase
    condition:
        $version
}

rule clinical_document
{
    meta:
        id         = "DOC-CDA"
        title      = "Clinical document with something active in it"
        category   = "exploit"
        severity   = "high"
        confidence = "strong"
        validator  = "clinical_document"
        where      = "printable"
        attack     = "T1059.007"
        reference  = "HL7 CDA Release 2"
        why        = "Viewers show a clinical document as a web page, and stylesheets pass on what they do not know. Do not open it before somebody has read it as text."
    strings:
        $namespace = "urn:hl7-org:v3"
    condition:
        $namespace
}
