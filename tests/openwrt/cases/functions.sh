# shellcheck shell=dash disable=SC2154,SC2317 # Functions are called, and variables set, by their names.
# lib/functions.sh and jshn.sh.
# shellcheck source=tests/openwrt/cases/check.sh
. /cases/check.sh
# shellcheck source=tests/openwrt/root/lib/functions.sh
. /lib/functions.sh
# shellcheck source=tests/openwrt/root/usr/share/libubox/jshn.sh
. /usr/share/libubox/jshn.sh

cat > /etc/config/x << 'END'
config agent 'main'
	option enabled 'off'
	option url 'it'\''s $(date) `x` "q"'
	list lan 'lan'
	list lan 'two words'
config rule
	option a 1
END
seen=
config_cb() { seen="$seen<$1 $2>"; }
option_cb() { seen="${seen}o$1=$2;"; }
list_cb() { seen="${seen}l$1=$2;"; }
config_load x
check 'callbacks' "<agent main>oenabled=off;ourl=it's \$(date) \`x\` \"q\";llan=lan;llan=two words;<rule cfg02493d>oa=1;< >" "$seen"
reset_cb
config_load x
config_get value main url
check 'config_get' "it's \$(date) \`x\` \"q\"" "$value"
config_get value main none other
check 'a default' other "$value"
config_get_bool value main enabled 1
check 'a truth' 0 "$value"
config_get_bool value main url 1
check 'what is no truth' 1 "$value"
all=
remember() { all="${all}[$1,$2]"; }
config_list_foreach main lan remember more
check 'config_list_foreach' '[lan,more][two words,more]' "$all"
all=
config_foreach remember rule more
check 'config_foreach' '[cfg02493d,more]' "$all"
config_load nothing
check 'no such package' 1 $?
printf 'config other o\n' > /etc/config/y
config_load y
config_get value main url gone
check 'the values of the package before' gone "$value"

json_init
json_add_string 'a"b' "x \"q\" \\ y
	z$(printf '\001')é€"
json_add_int n -5
json_add_boolean t 1
json_add_object o
json_add_string 'k k' v
json_add_array l
json_add_string '' 1
json_add_object ''
json_close_object
json_add_int '' 2
json_close_array
json_close_object
json_add_string e ''
json_dump > /tmp/dump
text=$(json_dump)
json_load "$text"
check 'JSON read again' "$text" "$(json_dump)"
json_get_var value 'a"b'
check 'a text' "x \"q\" \\ y
	z$(printf '\001')é€" "$value"
json_select o
json_select l
json_get_keys value
check 'places' '1 2 3' "$value"
json_get_type value 3
check 'a type' int "$value"
json_select ..
json_get_var value 'k k'
check 'back' v "$value"
json_get_var value nothing other
check 'a default' other "$value"
json_set_namespace second before
json_init
json_add_string a 1
json_set_namespace "$before"
json_get_var value 'k k'
check 'namespaces' v "$value"
json_load '{ "a": ' 2> /dev/null
check 'no JSON' 1 $?
check 'jsonfilter' 'x
2' "$(jsonfilter -s '{"a":{"b":["x",2]}}' -e '@.a.b[*]')"
check 'jsonfilter with names in quotes' x "$(jsonfilter -s '{"a-b":[{"c":"x"}]}' -e "@['a-b'][0].c")"
check 'jsonfilter without a result' 1 "$(jsonfilter -s '{}' -e '@.a' || echo $?)"
conclude
