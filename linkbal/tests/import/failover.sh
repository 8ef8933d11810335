#!/bin/bash
wan_1=eth0
router_1=192.0.2.1
wan_2=ppp0
router_2=198.51.100.1

while true; do
    good=0
    for host in 203.0.113.10 203.0.113.20; do
        if ping -c 2 -W 1 -I $wan_1 $host > /dev/null 2>&1; then
            good=1
        fi
    done
    if [ $good = 0 ]; then
        ip route replace default via $router_2
    else
        ip route replace default via $router_1
    fi
    sleep 30
done
