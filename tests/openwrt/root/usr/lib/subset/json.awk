# JSON for the subset of OpenWrt's user land of this project's tests. MODE (in the environment) says what is made
# of the text on standard input:
#   load    calls of jshn's json_add_… functions, which the shell evaluates
#   pretty  the same JSON, indented by tabs, as `ubus call` shows it
#   filter  the values at the path in EXPRESSION, one a line, as `jsonfilter -e` shows them
# It ends with 1 where the text is no JSON, or where nothing was found.

BEGIN {
    MODE = ENVIRON["MODE"]
    for (i = 1; i < 32; i++) control[sprintf("%c", i)] = sprintf("\\u%04x", i)
    control["\n"] = "\\n"; control["\t"] = "\\t"; control["\r"] = "\\r"
    control["\b"] = "\\b"; control["\f"] = "\\f"
    if (MODE == "escape") { printf "%s", escape(ENVIRON["TEXT"]); exit 0 }
    text = ""
    while ((getline line) > 0) text = text line "\n"
    root = value()
    blank()
    if (text != "") bad()
    if (MODE == "load") {
        if (kind[root] != "object" && kind[root] != "array") bad()
        for (i = 1; i <= size[root]; i++) emit(child[root, i], key[root, i])
    } else if (MODE == "pretty") print pretty(root, "")
    else if (MODE == "filter") exit filter(root, ENVIRON["EXPRESSION"]) ? 0 : 1
    else print compact(root)
    exit 0
}

function bad() { exit 1 }

function blank() { if (match(text, /^[ \t\r\n]+/)) text = substr(text, RLENGTH + 1) }

function take(sign) {
    blank()
    if (substr(text, 1, 1) != sign) return 0
    text = substr(text, 2)
    return 1
}

# The next value of the text: its number. kind, scalar, size, key and child are what it is.
function value(   me, k) {
    me = ++nodes; size[me] = 0
    blank()
    if (take("{")) {
        kind[me] = "object"
        if (take("}")) return me
        do {
            blank()
            if (substr(text, 1, 1) != "\"") bad()
            k = string()
            if (!take(":")) bad()
            key[me, ++size[me]] = k; child[me, size[me]] = value()
        } while (take(","))
        if (!take("}")) bad()
    } else if (take("[")) {
        kind[me] = "array"
        if (take("]")) return me
        do { ++size[me]; key[me, size[me]] = ""; child[me, size[me]] = value() } while (take(","))
        if (!take("]")) bad()
    } else if (substr(text, 1, 1) == "\"") { kind[me] = "string"; scalar[me] = string() }
    else if (match(text, /^(true|false)/)) word(me, "boolean")
    else if (match(text, /^null/)) word(me, "null")
    else if (match(text, /^-?[0-9]+[.eE][-+.eE0-9]*/)) word(me, "double")
    else if (match(text, /^-?[0-9]+/)) word(me, "int")
    else bad()
    return me
}

function word(me, what) {
    kind[me] = what; scalar[me] = substr(text, 1, RLENGTH); text = substr(text, RLENGTH + 1)
}

function string(   out, sign, code, low) {
    text = substr(text, 2); out = ""
    for (;;) {
        if (match(text, /^[^"\\]+/)) { out = out substr(text, 1, RLENGTH); text = substr(text, RLENGTH + 1) }
        if (text == "") bad()
        sign = substr(text, 1, 1)
        if (sign == "\"") { text = substr(text, 2); return out }
        sign = substr(text, 2, 1); text = substr(text, 3)
        if (sign == "n") out = out "\n"
        else if (sign == "t") out = out "\t"
        else if (sign == "r") out = out "\r"
        else if (sign == "b") out = out "\b"
        else if (sign == "f") out = out "\f"
        else if (sign == "u") {
            code = hexadecimal()
            if (code >= 55296 && code < 56320 && substr(text, 1, 2) == "\\u") {
                text = substr(text, 3); low = hexadecimal()
                code = 65536 + (code - 55296) * 1024 + low - 56320
            }
            out = out utf8(code)
        }
        else if (index("\"\\/", sign)) out = out sign
        else bad()
    }
}

function hexadecimal(   i, n, at) {
    n = 0
    for (i = 1; i <= 4; i++) {
        at = index("0123456789abcdef", tolower(substr(text, i, 1)))
        if (at == 0 || substr(text, i, 1) == "") bad()
        n = n * 16 + at - 1
    }
    text = substr(text, 5)
    return n
}

function utf8(code) {
    if (code == 0) return ""
    if (code < 128) return sprintf("%c", code)
    if (code < 2048) return sprintf("%c%c", 192 + int(code / 64), 128 + code % 64)
    if (code < 65536) return sprintf("%c", 224 + int(code / 4096)) last_two(code)
    return sprintf("%c%c", 240 + int(code / 262144), 128 + int(code / 4096) % 64) last_two(code)
}

function last_two(code) { return sprintf("%c%c", 128 + int(code / 64) % 64, 128 + code % 64) }

function escape(s,   out, i, sign) {
    if (s !~ /["\\\001-\037]/) return s
    out = ""
    for (i = 1; i <= length(s); i++) {
        sign = substr(s, i, 1)
        if (sign == "\"" || sign == "\\") out = out "\\" sign
        else if (sign in control) out = out control[sign]
        else out = out sign
    }
    return out
}

function shell(s,   parts, n, i, out) {
    n = split(s, parts, "'"); out = parts[1]
    for (i = 2; i <= n; i++) out = out "'\\''" parts[i]
    return "'" out "'"
}

function emit(me, name,   i, v) {
    v = scalar[me]
    if (kind[me] == "boolean") v = v == "true" ? 1 : 0
    print "json_add_" kind[me] " " shell(name) (size[me] == 0 && kind[me] ~ /^(object|array)$/ ? "" : " " shell(v))
    for (i = 1; i <= size[me]; i++) emit(child[me, i], key[me, i])
    if (kind[me] == "object" || kind[me] == "array") print "json_close_" kind[me]
}

function compact(me,   i, out) {
    if (kind[me] == "string") return "\"" escape(scalar[me]) "\""
    if (kind[me] != "object" && kind[me] != "array") return scalar[me]
    out = ""
    for (i = 1; i <= size[me]; i++)
        out = out (i > 1 ? ", " : "") (kind[me] == "object" ? "\"" escape(key[me, i]) "\": " : "") compact(child[me, i])
    return kind[me] == "object" ? "{ " out " }" : "[ " out " ]"
}

function pretty(me, indent,   i, out) {
    if (size[me] == 0) return kind[me] == "object" ? "{\n" indent "\n" indent "}" : compact(me)
    out = ""
    for (i = 1; i <= size[me]; i++)
        out = out (i > 1 ? ",\n" : "") indent "\t" (kind[me] == "object" ? "\"" escape(key[me, i]) "\": " : "") \
            pretty(child[me, i], indent "\t")
    return kind[me] == "object" ? "{\n" out "\n" indent "}" : "[\n" out "\n" indent "]"
}

# Prints what is at the path, and whether there was any: .name, .*, [number], [*], ['name'], ["name"].
function filter(me, path,   name, i, any, at) {
    sub(/^[@$]/, "", path)
    if (path == "" || path == ".") {
        print (kind[me] == "object" || kind[me] == "array") ? compact(me) : scalar[me]
        return 1
    }
    if (match(path, /^\.[A-Za-z0-9_-]+/)) { name = substr(path, 2, RLENGTH - 1); at = RLENGTH }
    else if (match(path, /^\.\*/)) { name = "*"; at = 2 }
    else if (match(path, /^\[[^]]*\]/)) {
        name = substr(path, 2, RLENGTH - 2); at = RLENGTH
        gsub(/^["']|["']$/, "", name)
    }
    else return 0
    path = substr(path, at + 1); any = 0
    for (i = 1; i <= size[me]; i++)
        if (name == "*" || (kind[me] == "object" && key[me, i] == name) || (kind[me] == "array" && i - 1 == name))
            any += filter(child[me, i], path)
    return any
}
