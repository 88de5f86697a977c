# shellcheck shell=dash
# /bin/ubus, with a plugin of rpcd.
# shellcheck source=tests/openwrt/cases/check.sh
. /cases/check.sh
mkdir -p /usr/libexec/rpcd
cat > /usr/libexec/rpcd/demo << 'END'
#!/bin/sh
case "$1 $2" in
    'list ') echo '{ "echo": { "text": "str" }, "broken": {}, "slow": {} }' ;;
    'call echo') read -r all; echo "{ \"got\": $all }" ;;
    'call broken') echo oops ;;
    'call slow') sleep 5; echo '{}' ;;
esac
END
chmod 755 /usr/libexec/rpcd/demo
failure() { { ubus "$@" > /dev/null; } 2>&1; echo "$?"; }
check 'rpcd has not read it' 'Command failed: Not found
4' "$(failure call demo echo)"
/etc/init.d/rpcd reload
check 'list' 'demo service system' "$(ubus list | grep -v network | xargs)"
check 'its methods' '"echo":{"text":"str"}' "$(ubus list -v demo | sed -n 2p | tr -d '	 ')"
check 'a call' 'a "b"' "$(ubus call demo echo '{"text":"a \"b\""}' | jsonfilter -e '@.got.text')"
check 'no such method' 'Command failed: Method not found
3' "$(failure call demo none)"
check 'an argument that nobody asked for' 'Command failed: Invalid argument
2' "$(failure call demo echo '{"other":1}')"
check 'an argument of another type' 'Command failed: Invalid argument
2' "$(failure call demo echo '{"text":1}')"
check 'an answer that is no JSON' 'Command failed: No response
5' "$(failure call demo broken)"
check 'an answer that is late' 'Command failed: Request timed out
7' "$(failure -t 1 call demo slow)"
conclude
