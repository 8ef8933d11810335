#!/bin/sh
# Takes connections along when keepalived moves the addresses: /etc/keepalived/notify.sh on both
# gateways, with mode 755. keepalived runs it as root: notify.sh INSTANCE NAME STATE [PRIORITY].

# The LAN's interface, and the router's address there.
lan=eth0
router=192.168.1.1

complain() {
    logger -t keepalived "$*: connections may not survive the next handover"
}

# keepalived does not wait for the script of an earlier state, which ends in time.
exec 9>/run/linkbal-notify.lock
flock -w 10 9 || complain "an earlier script still runs"

is_master() {
    [ -n "$(ip -oneline address show dev "$lan" to "$router/32")" ]
}

# Nothing waits for ever for conntrackd: the LAN is cut off meanwhile.
hanging=
sync() {
    [ -z "$hanging" ] || return 0
    timeout 5 /usr/sbin/conntrackd -C /etc/conntrackd/conntrackd.conf "$1" && return 0
    [ $? -ne 124 ] || hanging=yes
    complain "conntrackd $1 failed"
}

let_pass() {
    timeout 5 /usr/sbin/nft flush set inet high_availability standby || complain "nft failed"
}

stand_by() {
    # It may be the master again.
    is_master || timeout 5 /usr/sbin/nft add element inet high_availability standby "{ $lan }" ||
        complain "nft failed"
}

case "$3" in
MASTER)
    # What the partner told goes into the kernel: packets of the LAN wait for it.
    sync -c
    let_pass
    # The caches begin anew: the partner's, and that of what is in the kernel now.
    sync -f
    sync -R
    # The partner, if it is there, gets everything at once.
    sync -B
    ;;
BACKUP)
    stand_by
    # Entries of the time as a master expire soon.
    sync -t
    # The partner is asked for all of its own.
    sync -n
    ;;
FAULT | STOP)
    stand_by
    sync -t
    ;;
REFRESH)
    # The firewall was loaded anew, with an empty set.
    stand_by
    ;;
*)
    echo "usage: $0 INSTANCE NAME MASTER|BACKUP|FAULT|STOP|REFRESH" >&2
    exit 2
    ;;
esac
