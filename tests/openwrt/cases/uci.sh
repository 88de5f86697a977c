# shellcheck shell=dash
# /sbin/uci as OpenWrt's documentation has it.
# shellcheck source=tests/openwrt/cases/check.sh
. /cases/check.sh

cat > /etc/config/x << 'END'
# a comment
config agent 'main'
	option enabled '1'
	option url "http://a/b c"   # another
	list lan 'lan'
	list lan 'it'\''s'
	option two 'a
b'

config rule
	option a b\ c
config rule
	option a 2
END
check 'double quotes' 'http://a/b c' "$(uci get x.main.url)"
check 'a backslash' 'b c' "$(uci get x.@rule[0].a)"
check 'the last of a type' 2 "$(uci get x.@rule[-1].a)"
check 'a list' "lan it's" "$(uci get x.main.lan)"
check 'a type' agent "$(uci get x.main)"
check 'a value of two lines' 'a
b' "$(uci get x.main.two)"
check 'show' "x.main.lan='lan' 'it'\\''s'" "$(uci show x | grep lan)"
check 'show of a section without a name' "x.@rule[1].a='2'" "$(uci show x.@rule[1].a)"
check 'what is not there' 'uci: Entry not found 1' "$(uci get x.main.none 2>&1) $(uci get x.main.none 2> /dev/null || echo $?)"
check 'quietly' ' 1' "$(uci -q get x.nobody.a 2>&1) $(uci -q get x.nobody.a || echo $?)"
check 'no such package' 'uci: Entry not found' "$(uci show y 2>&1)"
check 'no such section' 'uci: Invalid argument' "$(uci set x.nobody.a=1 2>&1)"

before=$(cat /etc/config/x)
uci set x.main.enabled=0
uci set "x.main.text=a'b	c\\d \"e\""
uci add_list x.main.lan=guest
uci del_list x.main.lan=lan
uci set x.new=thing
uci set x.new.o=1
uci delete x.@rule[0]
name=$(uci add x rule)
uci set "x.$name.a=9"
check 'nothing is written before the commit' "$before" "$(cat /etc/config/x)"
check 'but it is read' 0 "$(uci get x.main.enabled)"
check 'changes' "x.main.enabled='0'" "$(uci changes x | head -n 1)"
uci commit x
check 'no changes after it' '' "$(uci changes)"
check 'the value stands in the file' "	option enabled '0'" "$(grep enabled /etc/config/x)"
check 'a value comes back as it was' "a'b	c\\d \"e\"" "$(uci get x.main.text)"
check 'the list' "it's guest" "$(uci get x.main.lan)"
check 'the named one' 1 "$(uci get x.new.o)"
check 'the added one' 9 "$(uci get x.@rule[-1].a)"
check 'the deleted one' 2 "$(uci get x.@rule[0].a)"
chmod 600 /etc/config/x
uci set x.new.o=2
uci commit
check 'a file keeps its mode' 600 "$(stat -c %a /etc/config/x)"
uci set x.new.o=3
uci revert x
check 'revert' 2 "$(uci get x.new.o)"
uci set x.new.o=
check 'an empty value deletes' '' "$(uci -q get x.new.o)"
uci revert x
uci rename x.new=neu
check 'rename' 2 "$(uci get x.neu.o)"
uci export x > /tmp/exported
uci import z < /tmp/exported
check 'import of what was exported' "$(uci show x | sed 's/^x/z/')" "$(uci show z)"
printf 'config a\n\toption\n' > /etc/config/bad
check 'a file with an error' 'uci: Parse error (insufficient arguments) at line 3, byte 0' "$(uci show bad 2>&1)"
mount -t tmpfs -o ro none /etc/config
check 'a read-only folder' 'uci: Entry not found' "$(uci commit x 2>&1)"
umount /etc/config
mkdir /tmp/kept && cp /etc/config/x /tmp/kept/
mount --bind /tmp/kept /etc/config && mount -o remount,bind,ro /etc/config
uci set x.neu.o=5
check 'a file that cannot be written' 'uci: I/O error' "$(uci commit x 2>&1)"
umount /etc/config
check 'is as it was' 2 "$(sed -n "s/.*option o '\(.*\)'/\1/p" /etc/config/x)"
conclude
