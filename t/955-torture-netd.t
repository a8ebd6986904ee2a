# SPDX-License-Identifier: Apache-2.0
# Torture of netd, and of a zygote that gets a network, as t/950-torture.t. Besides: whatever fails, the namespace that
# has its link keeps it, and what is denied stays denied.
BEGIN { $ENV{B} = 'build/fault' }
use lib 't/lib';
use Brood;
use Brood::Net;
use Brood::Torture;

my $net = Brood::Net->new;
my $ask = 'ask() { { exec 3<>/dev/tcp/$1/80 && echo who >&3 && read -r l <&3 && echo "${l%% *}"; } 2>/dev/null || echo no; }; ask 203.0.113.10; ';
my $t = Brood::Torture->new($net->egress('network-allow' => '203.0.113.0/24:80'), 'namespaces-spares' => 0, 'namespaces-active-max' => 2,
    answers => ["$ask ask 198.51.100.1", "world\nno\n"], state => sub { return {links => scalar(() = `ip -o link` =~ /: brd/g), tables => scalar(() = `nft list tables` =~ /brood_/g)} });

$t->torture('activation', $_, sub { return $t->says($t->fresh, $ask, "world\n") }) for qw(netd zygote primordial);
# Another address each time: netd loads other rules.
my $reloads = 0;
$t->torture('reload', 'netd', sub {
    my $more = 1 + $reloads++ % 2;
    return $t->reload("policies:\n  default: {network: {mode: egress, allow: [\"203.0.113.0/24:80\", \"203.0.113.$more:81\"]}}\n");
});
$t->finish(sub { is(scalar(() = `nft list tables` =~ /brood_/g) + (() = `ip -o link` =~ /: brd/g), 0, 'no link and no table is left') });
