#!/bin/sh
# Announces the default route to the LAN's router while linkbal can carry packets, and withdraws it
# while it cannot: /usr/local/sbin/linkbal-announce on each gateway, with mode 755. announce.service runs it.

# Said anew each time, so that a restart of FRR changes nothing: it begins with the shutdown of frr.conf.
tell() {
    /usr/bin/vtysh -c "configure terminal" -c "router bgp 65010" -c "$1 neighbor router shutdown" >/dev/null
}

# Also when this service stops: nobody would withdraw then.
trap 'tell ""; exit 0' TERM INT

failed=0
while :; do
    # A daemon that hangs does not answer.
    if timeout 3 /usr/sbin/linkbal health >/dev/null 2>&1; then
        failed=0
        tell no
    else
        # A daemon that died is back within a second.
        failed=$((failed + 1))
        [ "$failed" -lt 2 ] || tell ""
    fi
    sleep 1 &
    wait $!
done
