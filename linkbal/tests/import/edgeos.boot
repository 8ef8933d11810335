firewall {
    group {
        address-group SERVERS {
            address 10.0.0.5
            address 10.0.0.8-10.0.0.11
        }
        network-group INSIDE {
            network 10.0.0.0/8
            network 192.168.0.0/16
        }
    }
    modify SHARE {
        rule 10 {
            action modify
            destination {
                group {
                    network-group INSIDE
                }
            }
            modify {
                table main
            }
        }
        rule 20 {
            action modify
            destination {
                group {
                    address-group ADDRv4_eth1
                }
            }
            modify {
                table main
            }
        }
        rule 30 {
            action modify
            description "servers by the second line"
            modify {
                lb-group SECOND
            }
            source {
                group {
                    address-group SERVERS
                }
            }
        }
        rule 90 {
            action modify
            modify {
                lb-group BOTH
            }
        }
    }
}
interfaces {
    ethernet eth0 {
        address 10.0.0.1/24
        firewall {
            in {
                modify SHARE
            }
        }
        vif 20 {
            firewall {
                in {
                    modify SHARE
                }
            }
        }
    }
}
load-balance {
    group BOTH {
        interface eth1 {
            route-test {
                count {
                    failure 4
                    success 2
                }
                interval 5
                type {
                    ping {
                        target 203.0.113.10
                    }
                }
            }
            weight 70
        }
        interface pppoe0 {
            weight 30
        }
        lb-local enable
        transition-script /config/scripts/changed
    }
    group SECOND {
        interface eth1 {
            failover-only
        }
        interface pppoe0 {
        }
    }
}
