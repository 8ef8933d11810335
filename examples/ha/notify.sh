#!/bin/sh
# Takes connections along when keepalived moves the addresses: /etc/keepalived/notify.sh on both
# gateways, with mode 755. keepalived runs it as root: notify.sh INSTANCE NAME STATE [PRIORITY].

# The LAN's interface, and the router's address there.
lan=eth0
router=192.168.1.1

# keepalived does not wait for the script of an earlier state.
exec 9>/run/linkbal-notify.lock
flock 9

is_master() {
    [ -n "$(ip -oneline address show dev "$lan" to "$router/32")" ]
}

run() {
    "$@" || logger -t keepalived "$* failed: connections may not survive the next handover"
}

sync() {
    run /usr/sbin/conntrackd -C /etc/conntrackd/conntrackd.conf "$1"
}

stand_by() {
    # It may be the master again.
    is_master || run /usr/sbin/nft add element inet high_availability standby "{ $lan }"
    # Entries of the time as a master expire soon.
    sync -t
}

case "$3" in
MASTER)
    # What the partner told goes into the kernel: packets of the LAN wait for it.
    sync -c
    run /usr/sbin/nft flush set inet high_availability standby
    # The caches begin anew: the partner's, and that of what is in the kernel now.
    sync -f
    sync -R
    # The partner, if it is there, gets everything at once.
    sync -B
    ;;
BACKUP)
    stand_by
    # The partner is asked for all of its own.
    sync -n
    ;;
FAULT | STOP)
    stand_by
    ;;
*)
    echo "usage: $0 INSTANCE NAME MASTER|BACKUP|FAULT|STOP" >&2
    exit 2
    ;;
esac
