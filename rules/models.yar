// Encapsulated 3D models, which name other files.
//
// A trigger only asks the question; the validator that `meta` names answers it.

rule model_path
{
    meta:
        id         = "DOC-OBJ"
        title      = "3D model that names a file elsewhere"
        category   = "exploit"
        severity   = "high"
        confidence = "strong"
        validator  = "model_path"
        where      = "document"
        attack     = "T1187"
        reference  = "PS3.3 sections A.85.2 and A.85.3"
        why        = "A viewer that follows the name reads a file of its own machine, or logs on to a server of somebody else. Remove the name before the model is opened."
    strings:
        $library      = "mtllib"
        $map          = /map_[A-Za-z]{1,8}[ \t]/
        $bump         = "bump "
        $decal        = "decal "
        $displacement = "disp "
        $reflection   = "refl "
        $normal       = "norm "
    condition:
        any of them
}
