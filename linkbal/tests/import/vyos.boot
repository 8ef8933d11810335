interfaces {
    ethernet eth0 {
        vif 10 {
            address 10.1.0.1/24
        }
    }
}
load-balancing {
    wan {
        /* two lines */
        disable-source-nat
        enable-local-traffic
        flush-connections
        interface-health eth1 {
            nexthop 192.0.2.1
            success-count 2 /* twice */
        }
        interface-health pppoe0 {
            nexthop dhcp
        }
        rule 1 {
            inbound-interface "eth0.10"
            interface eth1 {
            }
            interface pppoe0 {
            }
            per-packet-balancing
            protocol all
        }
        sticky-connections {
            inbound
        }
    }
}
