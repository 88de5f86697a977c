# A subset of OpenWrt's `uci` for this project's tests: what /sbin/uci of this subset runs.
#
# A package is read from its file and from the changes that wait for a commit, which are lines in the save
# folder: OPERATION, section, option and value, separated by tabs, with \t, \n and \\ inside of them escaped.

BEGIN {
    TAB = "\t"; QUIET = 0; EXTENDED = 1; NAMES = 0; CONF = "/etc/config"; SAVE = "/tmp/.uci"
    first = 1
    while (first < ARGC && ARGV[first] ~ /^-/) {
        flag = ARGV[first++]
        if (flag == "-q") QUIET = 1
        else if (flag == "-X") EXTENDED = 0
        else if (flag == "-n") NAMES = 1
        else if (flag == "-c") CONF = ARGV[first++]
        else if (flag == "-P" || flag == "-t") SAVE = ARGV[first++]
        else if (flag == "-d") DELIMITER = ARGV[first++]
        else if (flag !~ /^-[sSN]$/) usage()
    }
    if (first >= ARGC) usage()
    command = ARGV[first++]
    count = ARGC - first
    argument = count > 0 ? ARGV[first] : ""
    if (command == "show" || command == "export") each_package(argument)
    else if (command == "changes") changes(argument)
    else if (command == "commit") commit_all(argument)
    else if (command == "import") import(argument)
    else if (command == "add" && count == 2) add(argument, ARGV[first + 1])
    else if (count != 1) usage()
    else if (command == "get") { open(argument, 0); get() }
    else if (command == "set") { open(argument, 1); set() }
    else if (command == "add_list") { open(argument, 1); add_list() }
    else if (command == "del_list") { open(argument, 1); del_list() }
    else if (command == "delete" || command == "del") { open(argument, -1); remove() }
    else if (command == "rename") { open(argument, 1); rename() }
    else if (command == "revert") revert(argument)
    else usage()
    exit 0
}

function fail(message) {
    if (!QUIET) print "uci: " message > "/dev/stderr"
    failed = 1
    exit 1
}

function usage() {
    print "Usage: uci [<options>] <command> [<arguments>]" > "/dev/stderr"
    failed = 1
    exit 255
}

function escape(text) {
    gsub(/\\/, "\\\\", text); gsub(/\t/, "\\t", text); gsub(/\n/, "\\n", text)
    return text
}

function unescape(text,   out, at, sign) {
    out = ""
    while ((at = index(text, "\\")) > 0) {
        sign = substr(text, at + 1, 1)
        out = out substr(text, 1, at - 1) (sign == "n" ? "\n" : sign == "t" ? TAB : sign)
        text = substr(text, at + 2)
    }
    return out text
}

function quote(text,   parts, n, i, out) {
    n = split(text, parts, "'")
    out = parts[1]
    for (i = 2; i <= n; i++) out = out "'\\''" parts[i]
    return "'" out "'"
}

# The whole file, or an answer below 0 where it cannot be read.
function slurp(path,   line, text, answer) {
    text = ""; FOUND = 0
    while ((answer = (getline line < path)) > 0) { text = text line "\n"; FOUND = 1 }
    close(path)
    if (answer == 0) FOUND = 1
    return text
}

# --- the file -------------------------------------------------------------------------------------------

# The next word of TEXT, which is taken away: WORD and KIND (word, end of line, end of text).
function next_word(   at, sign, part, some) {
    WORD = ""; some = 0
    for (;;) {
        if (TEXT == "") { KIND = some ? "word" : "end"; return }
        sign = substr(TEXT, 1, 1)
        if (sign == " " || sign == TAB || sign == "\r") {
            if (some) { KIND = "word"; return }
            match(TEXT, /^[ \t\r]+/); TEXT = substr(TEXT, RLENGTH + 1)
        } else if (sign == "\n" || sign == ";") {
            if (some) { KIND = "word"; return }
            if (sign == "\n") LINE++
            TEXT = substr(TEXT, 2); KIND = "line"; return
        } else if (sign == "#" && !some) {
            match(TEXT, /^[^\n]*/); TEXT = substr(TEXT, RLENGTH + 1)
        } else if (sign == "'") {
            at = index(substr(TEXT, 2), "'")
            if (at == 0) parse_error("unterminated '")
            part = substr(TEXT, 2, at - 1); TEXT = substr(TEXT, at + 2)
            LINE += gsub(/\n/, "\n", part); WORD = WORD part; some = 1
        } else if (sign == "\"") {
            TEXT = substr(TEXT, 2); some = 1
            while (substr(TEXT, 1, 1) != "\"") {
                if (TEXT == "") parse_error("unterminated \"")
                if (substr(TEXT, 1, 1) == "\\") TEXT = substr(TEXT, 2)
                if (substr(TEXT, 1, 1) == "\n") LINE++
                WORD = WORD substr(TEXT, 1, 1); TEXT = substr(TEXT, 2)
            }
            TEXT = substr(TEXT, 2)
        } else if (sign == "\\") {
            if (substr(TEXT, 2, 1) == "\n") LINE++
            else { WORD = WORD substr(TEXT, 2, 1); some = 1 }
            TEXT = substr(TEXT, 3)
        } else {
            match(TEXT, /^[^ \t\r\n;'"\\]+/)
            WORD = WORD substr(TEXT, 1, RLENGTH); TEXT = substr(TEXT, RLENGTH + 1); some = 1
        }
    }
}

function parse_error(what) {
    fail("Parse error (" what ") at line " LINE ", byte 0")
}

function need_word(what) {
    next_word()
    if (KIND != "word") parse_error(what)
    return WORD
}

function end_of_line() {
    next_word()
    if (KIND == "word") parse_error("too many arguments")
}

function parse(text,   verb, type, name, section, option) {
    TEXT = text; LINE = 1; section = ""
    for (;;) {
        next_word()
        if (KIND == "end") return
        if (KIND == "line") continue
        verb = WORD
        if (verb == "package") { need_word("insufficient arguments"); end_of_line() }
        else if (verb == "config") {
            type = need_word("insufficient arguments"); next_word()
            name = KIND == "word" ? WORD : ""
            if (KIND == "word") end_of_line()
            if (name !~ /^[A-Za-z0-9_]*$/) parse_error("invalid character in name field")
            section = new_section(type, name)
        } else if (verb == "option" || verb == "list") {
            if (section == "") parse_error("option/list command found before the first section")
            option = need_word("insufficient arguments")
            if (option !~ /^[A-Za-z0-9_]+$/) parse_error("invalid character in name field")
            next_word()
            if (verb == "list") { append(section, option, KIND == "word" ? WORD : "") }
            else put(section, option, KIND == "word" ? WORD : "")
            if (KIND == "word") end_of_line()
        } else parse_error("invalid command")
    }
}

# --- the package in memory: order[1..sections], type, anonymous, options of a section, values ---------------

function new_section(kind, name,   i, hash) {
    if (name == "") {
        hash = 5381
        for (i = 1; i <= length(kind); i++)
            hash = (hash * 33 + index("abcdefghijklmnopqrstuvwxyz0123456789_-", substr(kind, i, 1))) % 65536
        name = sprintf("cfg%02x%04x", sections + 1, hash)
        while (name in type) name = name "x"
        anonymous[name] = 1
    }
    if (!(name in type)) order[++sections] = name
    type[name] = kind
    return name
}

function put(section, option, value) {
    if (!((section, option) in is)) { options[section] = options[section] " " option }
    is[section, option] = "option"; value_of[section, option, 1] = value; values[section, option] = 1
}

function append(section, option, value,   n) {
    if (!((section, option) in is)) {
        options[section] = options[section] " " option; values[section, option] = 0
    }
    is[section, option] = "list"
    n = ++values[section, option]; value_of[section, option, n] = value
}

function drop_value(section, option, value,   i, n) {
    n = 0
    for (i = 1; i <= values[section, option]; i++)
        if (value_of[section, option, i] != value) value_of[section, option, ++n] = value_of[section, option, i]
    values[section, option] = n
    if (n == 0) drop(section, option)
}

function drop(section, option,   i, n, names, kept) {
    if (option != "") {
        delete is[section, option]
        n = split(options[section], names, " "); kept = ""
        for (i = 1; i <= n; i++) if (names[i] != option) kept = kept " " names[i]
        options[section] = kept
        return
    }
    n = split(options[section], names, " ")
    for (i = 1; i <= n; i++) delete is[section, names[i]]
    delete options[section]; delete type[section]; delete anonymous[section]
    for (i = 1; i <= sections && order[i] != section; i++);
    for (; i < sections; i++) order[i] = order[i + 1]
    sections--
}

function change_name(section, option, name,   i, n, names, kept) {
    if (option == "") {
        for (i = 1; i <= sections; i++) if (order[i] == section) order[i] = name
        type[name] = type[section]; delete type[section]; delete anonymous[section]
        options[name] = options[section]
        n = split(options[section], names, " ")
        for (i = 1; i <= n; i++) move(section, names[i], name, names[i])
        delete options[section]
        return
    }
    move(section, option, section, name)
    n = split(options[section], names, " "); kept = ""
    for (i = 1; i <= n; i++) kept = kept " " (names[i] == option ? name : names[i])
    options[section] = kept
}

function move(section, option, to_section, to_option,   i) {
    is[to_section, to_option] = is[section, option]; delete is[section, option]
    values[to_section, to_option] = values[section, option]
    for (i = 1; i <= values[section, option]; i++)
        value_of[to_section, to_option, i] = value_of[section, option, i]
}

function load(name,   text, line, part, path) {
    split("", order); split("", type); split("", anonymous); split("", options)
    split("", is); split("", values); split("", value_of); sections = 0
    if (name !~ /^[A-Za-z0-9_-][A-Za-z0-9_.-]*$/) return 0
    text = slurp(CONF "/" name)
    if (!FOUND) return 0
    parse(text)
    path = SAVE "/" name
    while ((getline line < path) > 0) {
        split(line, part, TAB)
        apply(part[1], part[2], part[3], unescape(part[4]))
    }
    close(path)
    return 1
}

function apply(operation, section, option, value) {
    if (operation == "type" || operation == "add") {
        if (operation == "add" && !(section in type)) anonymous[section] = 1
        new_section(value, section)
    }
    else if (!(section in type)) return
    else if (operation == "set") put(section, option, value)
    else if (operation == "append") append(section, option, value)
    else if (operation == "take") { if ((section, option) in is) drop_value(section, option, value) }
    else if (operation == "delete") { if (option == "" || (section, option) in is) drop(section, option) }
    else if (operation == "rename") change_name(section, option, value)
}

function stage(operation, section, option, value,   path) {
    path = SAVE "/" PACKAGE
    system("mkdir -p -m 0700 '" SAVE "'")
    print operation TAB section TAB option TAB escape(value) >> path
    if (close(path) != 0) fail("I/O error")
}

# --- the commands ----------------------------------------------------------------------------------------

# Takes PACKAGE[.SECTION[.OPTION]][=VALUE] apart, and finds @TYPE[INDEX]. VALUE is needed (1), forbidden (0) or
# may be (-1).
function open(text, valued,   at, part, n) {
    at = index(text, "=")
    VALUED = at > 0
    if (VALUED) { VALUE = substr(text, at + 1); text = substr(text, 1, at - 1) }
    if ((valued == 1 && !VALUED) || (valued == 0 && VALUED)) fail("Invalid argument")
    n = split(text, part, ".")
    PACKAGE = part[1]; SECTION = part[2]; OPTION = part[3]
    if (n > 3 || PACKAGE == "" || (n > 1 && SECTION == "") || (n > 2 && OPTION !~ /^[A-Za-z0-9_]+$/))
        fail("Invalid argument")
    if (!load(PACKAGE)) fail("Entry not found")
    if (SECTION ~ /^@/) {
        SECTION = find_anonymous(SECTION)
        if (SECTION == "") fail("Entry not found")
    } else if (SECTION !~ /^[A-Za-z0-9_]*$/) fail("Invalid argument")
}

function find_anonymous(text,   kind, place, i, n, found) {
    if (text !~ /^@[^[]*\[-?[0-9]+\]$/) fail("Invalid argument")
    kind = substr(text, 2, index(text, "[") - 2)
    place = substr(text, index(text, "[") + 1) + 0
    n = 0
    for (i = 1; i <= sections; i++) if (kind == "" || type[order[i]] == kind) found[n++] = order[i]
    if (place < 0) place += n
    return place in found ? found[place] : ""
}

function get(   i, out) {
    if (SECTION == "") fail("Invalid argument")
    if (!(SECTION in type)) fail("Entry not found")
    if (OPTION == "") { print type[SECTION]; return }
    if (!((SECTION, OPTION) in is)) fail("Entry not found")
    out = value_of[SECTION, OPTION, 1]
    for (i = 2; i <= values[SECTION, OPTION]; i++)
        out = out (DELIMITER == "" ? " " : DELIMITER) value_of[SECTION, OPTION, i]
    print out
}

function add(package, kind) {
    PACKAGE = package
    if (!load(PACKAGE)) fail("Entry not found")
    if (kind !~ /^[A-Za-z0-9_-]+$/) fail("Invalid argument")
    # Its name stays until the commit: it says the place and the type.
    SECTION = new_section(kind, "")
    stage("add", SECTION, "", kind)
    print SECTION
}

function set() {
    if (SECTION == "") fail("Invalid argument")
    if (OPTION == "") {
        if (VALUE == "") { remove(); return }
        if (VALUE !~ /^[A-Za-z0-9_-]+$/) fail("Invalid argument")
        stage("type", SECTION, "", VALUE)
    }
    else if (!(SECTION in type)) fail("Invalid argument")
    else if (VALUE == "") { if ((SECTION, OPTION) in is) stage("delete", SECTION, OPTION, "") }
    else if (is[SECTION, OPTION] != "option" || value_of[SECTION, OPTION, 1] != VALUE)
        stage("set", SECTION, OPTION, VALUE)
}

function add_list() {
    if (OPTION == "" || !(SECTION in type)) fail("Invalid argument")
    stage("append", SECTION, OPTION, VALUE)
}

function del_list() {
    if (OPTION == "" || !(SECTION in type)) fail("Invalid argument")
    if ((SECTION, OPTION) in is) stage("take", SECTION, OPTION, VALUE)
}

function remove() {
    if (SECTION == "" || !(SECTION in type)) fail(SECTION == "" ? "Invalid argument" : "Entry not found")
    if (OPTION != "" && !((SECTION, OPTION) in is)) fail("Entry not found")
    if (VALUED && OPTION != "" && is[SECTION, OPTION] == "list" && VALUE ~ /^[0-9]+$/) {
        if (VALUE + 1 > values[SECTION, OPTION]) fail("Entry not found")
        stage("take", SECTION, OPTION, value_of[SECTION, OPTION, VALUE + 1])
    }
    else stage("delete", SECTION, OPTION, "")
}

function rename() {
    if (!(SECTION in type) || (OPTION != "" && !((SECTION, OPTION) in is))) fail("Entry not found")
    if (VALUE !~ /^[A-Za-z0-9_]+$/) fail("Invalid argument")
    stage("rename", SECTION, OPTION, VALUE)
}

function each_package(text,   listing, name, found) {
    if (text != "") {
        open(text, 0)
        if (SECTION != "" && !(SECTION in type)) fail("Entry not found")
        if (OPTION != "" && !((SECTION, OPTION) in is)) fail("Entry not found")
        if (command == "show") show(SECTION, OPTION)
        else printf "%s", "package " PACKAGE "\n" rendered(NAMES)
        return
    }
    listing = "ls '" CONF "' 2>/dev/null"
    while ((listing | getline name) > 0) found[++found[0]] = name
    close(listing)
    for (name = 1; name <= found[0]; name++) {
        PACKAGE = found[name]
        if (!load(PACKAGE)) continue
        if (command == "show") show("", "")
        else printf "%s", "package " PACKAGE "\n" rendered(NAMES) "\n"
    }
}

function shown(section,   i, n) {
    if (!EXTENDED || !(section in anonymous)) return section
    n = 0
    for (i = 1; order[i] != section; i++) if (type[order[i]] == type[section]) n++
    return "@" type[section] "[" n "]"
}

function show(only, option,   i, j, k, n, names, section, line) {
    for (i = 1; i <= sections; i++) {
        section = order[i]
        if (only != "" && section != only) continue
        if (option == "") print PACKAGE "." shown(section) "=" type[section]
        n = split(options[section], names, " ")
        for (j = 1; j <= n; j++) {
            if (option != "" && names[j] != option) continue
            line = quote(value_of[section, names[j], 1])
            for (k = 2; k <= values[section, names[j]]; k++)
                line = line (DELIMITER == "" ? " " : DELIMITER) quote(value_of[section, names[j], k])
            print PACKAGE "." shown(section) "." names[j] "=" line
        }
    }
}

# The package as its file, with names of anonymous sections where `named`.
function rendered(named,   i, j, k, n, names, section, out) {
    out = ""
    for (i = 1; i <= sections; i++) {
        section = order[i]
        out = out "\nconfig " type[section]
        if (named || !(section in anonymous)) out = out " " quote(section)
        out = out "\n"
        n = split(options[section], names, " ")
        for (j = 1; j <= n; j++)
            for (k = 1; k <= values[section, names[j]]; k++)
                out = out TAB is[section, names[j]] " " names[j] " " quote(value_of[section, names[j], k]) "\n"
    }
    return out
}

# The waiting changes' packages into list, and how many they are.
function waiting(only, list,   listing, name, n) {
    n = 0
    listing = "ls '" SAVE "' 2>/dev/null"
    while ((listing | getline name) > 0) if (only == "" || name == only) list[++n] = name
    close(listing)
    return n
}

function changes(only,   n, i, list, path, line, part, place) {
    n = waiting(only, list)
    for (i = 1; i <= n; i++) {
        path = SAVE "/" list[i]
        while ((getline line < path) > 0) {
            split(line, part, TAB)
            place = list[i] "." part[2] (part[3] == "" ? "" : "." part[3])
            if (part[1] == "delete") print "-" place
            else if (part[1] == "append") print place "+=" quote(unescape(part[4]))
            else if (part[1] == "take") print place "-=" quote(unescape(part[4]))
            else if (part[1] == "rename") print "@" place "=" quote(unescape(part[4]))
            else print place "=" quote(unescape(part[4]))
        }
        close(path)
    }
}

function commit_all(only,   n, i, list) {
    if (only != "" && !load(only)) fail("Entry not found")
    n = waiting(only, list)
    for (i = 1; i <= n; i++)
        if (load(list[i])) write_package(list[i])
}

function write_package(name,   path, new) {
    path = CONF "/" name; new = CONF "/." name ".uci-new"
    # The new file takes the place of the old one in one step, with its mode.
    if (system("cp -p '" path "' '" new "' 2>/dev/null || : 2>/dev/null > '" new "'") != 0) fail("I/O error")
    printf "%s", rendered(0) > new
    if (close(new) != 0 || system("mv -f '" new "' '" path "' 2>/dev/null") != 0) fail("I/O error")
    system("rm -f '" SAVE "/" name "'")
}

function import(name,   line, text) {
    if (name !~ /^[A-Za-z0-9_-]+$/) fail("Invalid argument")
    text = ""
    while (("cat" | getline line) > 0) text = text line "\n"
    parse(text)
    system("mkdir -p '" CONF "'")
    write_package(name)
}

function revert(text,   path, line, part, kept, n) {
    n = split(text, part, ".")
    if (n == 0 || !load(part[1])) fail("Entry not found")
    if (n == 1) { system("rm -f '" SAVE "/" part[1] "'"); return }
    open(text, 0)
    path = SAVE "/" PACKAGE; kept = ""
    while ((getline line < path) > 0) {
        split(line, part, TAB)
        if (part[2] != SECTION || (OPTION != "" && part[3] != OPTION)) kept = kept line "\n"
    }
    close(path)
    printf "%s", kept > path
    close(path)
}
