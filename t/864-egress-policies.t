# SPDX-License-Identifier: Apache-2.0
# Networks by named policies: each namespace gets its own policy's, none of another's; a reload gives the next run the
# new one and never lends a living namespace a number that means something else now.
use lib 't/lib';
use Brood;
use Brood::Net;

my $net = Brood::Net->new;
my $dir = File::Temp::tempdir(CLEANUP => 1);
my $file = "$dir/policy.yaml";
my %policies = (
    web => 'web: {network: {mode: egress, allow: ["203.0.113.0/24:80"], resolvers: ["203.0.113.53"]}}',
    db => 'db: {network: {mode: egress, allow: ["tcp://10.99.0.5:5432"], rate_kbit: 80000}}',
    all => 'all: {network: {mode: egress, allow: ["0.0.0.0/0:8080"]}}',
    moved => 'web: {network: {mode: egress, allow: ["203.0.113.0/24:443"]}}',
);
my $matches = 'namespaces: [{match: "web-*", policy: web}, {match: "db-*", policy: db}%s]' . "\n";
sub write_policies { my ($more, @names) = @_; spew($file, "policies:\n" . join('', map { "  $policies{$_}\n" } @names) . sprintf $matches, $more) }

write_policies('', 'web', 'db');
my @quiet = ('network-mode' => 'none');
my $brood = Brood->start($net->egress(@quiet, 'policy-file' => $file));
my %at = (web => '203.0.113.10/80', https => '203.0.113.10/443', db => '10.99.0.5/5432', any => '198.51.100.1/8080');

sub reach { # which of them does this namespace reach?
    my ($ns) = @_;
    my $r = $brood->sh($ns => join('; ', map { "(exec 3<>/dev/tcp/$at{$_} && echo who >&3 && read -r l <&3 && [ \"\$l\" ] && echo $_) 2>/dev/null" } sort keys %at), timeout => 20);
    return join ' ', split /\n/, $r->{stdout};
}

is(scalar $brood->pids('netd'), 1, 'one policy with egress is enough for a netd');
is(reach('web-1'), 'web', 'web reaches what web may');
is(reach('db-1'), 'db', 'db what db may');
is(reach('other'), '', 'the default policy nothing');
is($brood->sh(other => 'tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d " "')->{stdout}, "lo\n", 'for it has only lo');
is($brood->sh('web-1' => 'cat /etc/resolv.conf')->{stdout}, "nameserver 203.0.113.53\n", 'web has its resolver');
unlike($brood->sh('db-1' => 'cat /etc/resolv.conf')->{stdout}, qr/nameserver/, 'db has none');

# ---- reload ----
sub reload {
    my ($says) = @_;
    my $n = grep { ($_->{event} // '') =~ /^policies/ } $brood->log_lines;
    $brood->signal('HUP');
    my @lines;
    until_true(10, sub { @lines = grep { ($_->{event} // '') =~ /^policies/ } $brood->log_lines; @lines > $n });
    return $lines[-1];
}

# A run of web that goes on meanwhile: its link keeps its number, and that its meaning.
my $long = $brood->post('web-2' => 'echo x >begun; until [ -e go ]; do read -t 0.05 <> <(:); done; for t in ' . join(' ', map { $at{$_} } qw(web https db any)) . '; do (exec 3<>/dev/tcp/$t && echo who >&3 && read -r l <&3 && echo $t) 2>/dev/null; done', timeout => 60);
ok($brood->wait_file('begun'), 'a run of web goes on');
write_policies(', {match: "all-*", policy: all}', 'all', 'db', 'moved');
is(reload()->{event}, 'policies', 'another order, another web');
spew("$brood->{fs_root}/web-2/go");
is($brood->result($long, 30)->{stdout}, "$at{web}\n", 'what had begun may what it might');
is(reach('web-1'), 'https', 'the next run of web may what the new one says');
is(reach('web-2'), 'https', 'here as well');
is(reach('db-1'), 'db', 'db as before');
is(reach('all-1'), 'any', 'and a new one');
is(reach('other'), '', 'the default still nothing');

spew($file, slurp($file) =~ s{203\.0\.113\.0/24:443}{203.0.113.7/24:443}r);
my $refused = reload();
is($refused->{event}, 'policies_kept', 'a mistake changes nothing');
like($refused->{error}, qr{policy\.yaml:\d+: policies\.web\.network\.allow: 203\.0\.113\.7/24:443: .*expected 203\.0\.113\.0/24}, 'and is named');
is(reach('web-1'), 'https', 'as before');

# Many reloads, each with another network: numbers are used again when nobody has them.
for my $i (1 .. 40) {
    $policies{turn} = "web: {network: {mode: egress, allow: [\"203.0.113.0/24:80\", \"192.0.2.$i:9\"]}}";
    write_policies('', 'turn', 'db');
    my $line = reload();
    $line->{event} eq 'policies' or diag("reload $i: $line->{error}"), last;
}
is(reach('web-1'), 'web', 'the fortieth is in force');
is(reach('db-1'), 'db', 'beside it db');

# ---- netd dies: the numbers are priv's, so the new one's mean the same ----
my ($netd) = $brood->pids('netd');
kill KILL => $netd;
ok(until_true(10, sub { grep { $_ != $netd } $brood->pids('netd') }), 'another netd');
is(reach('web-1'), 'web', 'web may the same');
is(reach('db-1'), 'db', 'so may db');
is(reach('db-2'), 'db', 'and a new one');
$brood->stop;

# ---- a service that started without a network has no way to make one ----
spew($file, "policies: {}\n");
$brood = Brood->start($net->egress(@quiet, 'policy-file' => $file, 'namespaces-spares' => 1));
is(scalar $brood->pids('netd'), 0, 'no policy with egress: no netd');
my ($caps) = slurp("/proc/$brood->{pid}/status") =~ /^CapBnd:\s*(\w+)/m;
is(hex($caps) & 0x1000, 0, 'and priv can not become able to');
write_policies('', 'web', 'db');
$refused = reload();
is($refused->{event}, 'policies_kept', 'egress by a reload is refused then');
like($refused->{error}, qr/needs a restart/, 'with the reason');
$brood->stop;

done_testing;
