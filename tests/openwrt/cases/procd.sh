# shellcheck shell=dash
# rc.common, procd.sh, and the supervisor.
# shellcheck source=tests/openwrt/cases/check.sh
. /cases/check.sh
syslogd -C64
cat > /etc/init.d/t << 'END'
#!/bin/sh /etc/rc.common
START=50
STOP=10
USE_PROCD=1
start_service() {
	procd_open_instance
	procd_set_param command /bin/sh /tmp/program "it's"
	procd_append_param command 'two words'
	procd_set_param env "A=b c"
	procd_append_param env B=2
	procd_set_param respawn 5 1 "$(cat /tmp/retry)"
	procd_set_param stderr 1
	procd_set_param file /etc/t.conf
	procd_set_param term_timeout 1
	procd_set_param pidfile /var/run/t.pid
	procd_set_param limits nofile="100 200"
	procd_close_instance
}
service_triggers() {
	PROCD_RELOAD_DELAY=100
	procd_add_reload_trigger t
	procd_add_reload_interface_trigger wan
}
END
cat > /tmp/program << 'END'
echo "$1,$2,$A,$B,$(ulimit -Sn),$(ulimit -Hn)" >&2
echo run >> /tmp/runs
case $(cat /tmp/mode) in
    crash) exit 3 ;;
    deaf) trap '' TERM; : > /tmp/is-deaf ;;
esac
while :; do sleep 1000 & wait; done
END
chmod 755 /etc/init.d/t
echo good > /tmp/mode
echo 2 > /tmp/retry
echo 1 > /etc/t.conf
t=/etc/init.d/t
runs() { wc -l < /tmp/runs; }
pid() { cat /var/run/t.pid; }
up() { $t running; }
down() { ! $t running; }
has_runs() { [ "$(runs)" = "$1" ]; }
another() { [ -e /var/run/t.pid ] && [ "$(pid)" != "$before" ] && up; }
gone() { ! [ -e /var/run/procd-subset/services/t ]; }

$t enabled
check 'not enabled at first' 1 $?
$t enable
check 'the links' 'K10t S50t' "$(cd /etc/rc.d && echo ?[0-9][0-9]t)"
$t enabled
check 'enabled' 0 $?
$t start
within 3 up
check 'running' 'running' "$($t status)"
within 3 sh -c 'logread | grep -q "daemon.err sh"'
check 'its error output is in the log' "sh[$(pid)]: it's,two words,b c,2,100,200" \
    "$(logread | sed -n 's/.*daemon.err //p' | head -n 1)"
before=$(pid)
$t reload
usleep 300000
check 'a reload without a change' "$before" "$(pid)"
echo 2 > /etc/t.conf
$t reload
within 3 another
check 'a reload with another file' 0 $?
before=$(pid)
$t restart
within 3 another
check 'a restart' 0 $?
before=$(pid)
kill -KILL "$before"
usleep 300000
check 'waits before the next start' 1 "$($t running || echo $?)"
within 3 another
check 'then starts' 0 $?
before=$(pid)
echo 3 > /etc/t.conf
/sbin/procd-subset event config.change package other
usleep 400000
check 'an event of another package' "$before" "$(pid)"
/sbin/procd-subset event config.change package t
within 3 another
check 'an event of its own' 0 $?
before=$(pid)
echo 4 > /etc/t.conf
/sbin/procd-subset event interface.update interface wan
within 3 another
check 'an event of the interface' 0 $?
check 'ubus shows it' "true 1" \
    "$(ubus call service list '{"name":"t"}' | jsonfilter -e '@.t.instances.*.running' -e '@.t.instances.*.respawn.timeout' | xargs)"

echo deaf > /tmp/mode
$t restart
within 3 [ -e /tmp/is-deaf ]
before=$(pid)
$t stop
usleep 500000
check 'TERM, and time for it' 0 "$(kill -0 "$before"; echo $?)"
within 3 gone
check 'then KILL' "Instance t::instance1 pid $before not stopped on SIGTERM, sending SIGKILL instead" \
    "$(logread | sed -n 's/.*procd: //p' | tail -n 1)"
check 'and it is forgotten' 'inactive' "$($t status)"
check 'with its pidfile' 1 "$([ -e /var/run/t.pid ] || echo 1)"

echo crash > /tmp/mode
: > /tmp/runs
$t start
within 6 sh -c 'logread | grep -q "crash loop"'
check 'retry 2: three runs' 3 "$(runs)"
check 'given up' 'not running' "$($t status)"
check 'its exit code' 3 "$(ubus call service list '{"name":"t"}' | jsonfilter -e '@.t.instances.*.exit_code')"
$t stop
within 3 gone
echo 0 > /tmp/retry
: > /tmp/runs
$t start
within 8 has_runs 5
check 'retry 0: never gives up' 0 $?
$t stop
within 3 gone
check 'a stop between two runs' 0 $?
$t disable
check 'disabled' '' "$(find /etc/rc.d -name '*[0-9]t')"
conclude
