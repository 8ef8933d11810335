#!/bin/sh
# Takes connections along when keepalived moves the addresses: /etc/keepalived/notify.sh on both
# gateways, with mode 755. keepalived runs it as root: notify.sh INSTANCE NAME STATE [PRIORITY].

sync() {
    /usr/sbin/conntrackd -C /etc/conntrackd/conntrackd.conf "$@" ||
        logger -t keepalived "conntrackd $* failed: connections may not survive the next change"
}

case "$3" in
MASTER)
    # What the partner told goes into the kernel first: packets are waiting for it.
    sync -c
    # The caches begin anew: the partner's, and that of what is in the kernel now.
    sync -f
    sync -R
    # The partner, if it is there, gets everything at once.
    sync -B
    ;;
BACKUP)
    # Entries of the time as a master expire soon, and the partner is asked for all of its own.
    sync -t
    sync -n
    ;;
FAULT | STOP)
    sync -t
    ;;
*)
    echo "usage: $0 INSTANCE NAME MASTER|BACKUP|FAULT|STOP" >&2
    exit 2
    ;;
esac
