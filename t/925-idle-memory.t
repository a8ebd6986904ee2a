# SPDX-License-Identifier: Apache-2.0
# What the service takes by itself: priv, engine, frontend and primordial together, with default settings, when
# nothing is asked of it - just started, and after it has served. Each page counts by its share (PSS); the sum of all
# resident pages, shared or not, is printed beside it.
use lib 't/lib';
use Brood;

use constant {BAR_KIB => 24 * 1024, ROLES => [qw(priv engine frontend primordial)]};
plan skip_all => 'the shadow memory of a sanitizer counts' if Brood::build() =~ /asan/;

my $brood = Brood->start;

# {role => PSS in KiB, all => .., resident => ..}
sub measure {
    my (%n, %seen) = (all => 0, resident => 0);
    for my $p (grep { my $role = $_->{role}; grep { $_ eq $role } @{+ROLES} } $brood->processes) {
        my %kib = (slurp("/proc/$p->{pid}/smaps_rollup") // '') =~ /^(Rss|Pss):\s+(\d+) kB/mg;
        $n{$p->{role}} += $kib{Pss} // 0;
        $n{all} += $kib{Pss} // 0;
        $n{resident} += $kib{Rss} // 0;
    }
    return \%n;
}

sub is_quiet {
    return until_true(10, sub { 8 == (() = $brood->pids('zygote')) && @{ROLES()} == grep { my $role = $_; $brood->pids($role) == 1 } @{ROLES()} });
}

sub is_within_bar {
    my ($what) = @_;
    my $n = measure();
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is(scalar(grep { $n->{$_} } @{ROLES()}), 4, "$what: all four are measured");
    cmp_ok($n->{all}, '<=', BAR_KIB, "$what: within 24 MiB");
    diag(sprintf 'memory of the service, %s: %.1f MiB PSS (%s KiB; %.1f MiB resident)', $what, $n->{all} / 1024,
        join(', ', map { "$_ $n->{$_}" } @{ROLES()}), $n->{resident} / 1024);
}

ok(is_quiet(), 'eight spares, nothing else');
is_within_bar('just started');
for my $round (1 .. 3) {
    my @conns = map { $brood->post("ns-$_" => 'echo hi; head -c 100000 /dev/zero') } 1 .. 24;
    is(scalar(grep { $brood->result($_)->{http} != 200 } @conns), 0, "round $round is served");
}
is(system("${\Brood::build()}/brood ns rm --socket $brood->{socket} " . join ' ', map { "ns-$_" } 1 .. 24), 0, 'the namespaces are removed');
ok(is_quiet(), 'quiet again');
is_within_bar('after 72 runs in 24 namespaces');
$brood->stop;
done_testing;
