# SPDX-License-Identifier: Apache-2.0
# The attacker opens sockets of families that nobody asked for: the kernel's crypto, virtual machines, packets, netlink's
# less tested protocols - each a large piece of kernel behind one call.
use lib 't/lib';
use Brood;
use Brood::Attack;

my $brood = Brood->start;
my %families = (ax25 => 3, ipx => 4, appletalk => 5, x25 => 9, packet => 17, rds => 21, pppox => 24, llc => 26, ib => 27, can => 29,
    tipc => 30, bluetooth => 31, iucv => 32, rxrpc => 33, ieee802154 => 36, caif => 37, alg => 38, nfc => 39, vsock => 40, kcm => 41, qipcrtr => 42, smc => 43, xdp => 44, mctp => 45, none => 0, future => 46);
my %netlink = (usersock => 2, inet_diag => 4, xfrm => 6, audit => 9, netfilter => 12, kobject => 15, generic => 16, crypto => 21);
my $attack = join '', (map { "call('$_' => 41, $families{$_}, 3, 0);\ncall('$_ dgram' => 41, $families{$_}, 2, 0);\n" } sort keys %families),
    (map { "call('netlink $_' => 41, 16, 3, $netlink{$_});\n" } sort keys %netlink);
my $got = attack($brood, mallory => $attack . <<'PERL');
call('high bits' => 41, 38 | 1 << 32, 5, 0);                 # the kernel looks at 32 bits
call('high bits of netlink' => 41, 16 | 1 << 32, 3, 2);
call('pair' => 53, 40, 1, 0, pack('ii', 0, 0));
call('raw' => 41, 2, 3, 1);
call('raw6' => 41, 10, 3, 58);
call('tcp' => 41, 2, 1, 0);
call('udp6' => 41, 10, 2, 0);
call('unix' => 41, 1, 1, 0);
call('route' => 41, 16, 3, 0);
call('unix pair' => 53, 1, 1, 0, pack('ii', 0, 0));
PERL
for my $family (sort keys %families) {
    refused($got, $_, qr/^EPERM$/) for $family, "$family dgram";
}
refused($got, "netlink $_", qr/^EPERM$/) for sort keys %netlink;
refused($got, $_, qr/^EPERM$/) for 'high bits', 'high bits of netlink', 'pair';
refused($got, $_, qr/^EPERM$/) for 'raw', 'raw6';
done($got, $_, "control: $_ sockets work") for 'tcp', 'udp6', 'unix', 'route', 'unix pair';
is($brood->sh(mallory => 'getent ahosts localhost | head -n 1 | cut -d " " -f 1')->{stdout} =~ /^(?:127\.0\.0\.1|::1)$/ ? 'found' : 'not found', 'found', 'control: names are resolved, with netlink');
my $host = on_host($attack);
done($host, $_, "control: outside there is $_") for 'packet', 'netlink usersock', 'netlink inet_diag', 'netlink generic';

$brood->stop;
done_testing;
