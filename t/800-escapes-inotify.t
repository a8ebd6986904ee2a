# SPDX-License-Identifier: Apache-2.0
# Resources that the kernel counts per user: one tenant takes all inotify instances, pending signals, keys, pipe
# buffers; another tenant and the host must not notice. ucounts are charged to the owner of a userns.
use lib 't/lib';
use Brood;
use Brood::Attack;

my $brood = Brood->start('limits-nofile' => 1024);
my $take = <<'PERL';
my $n = 0;
for (1 .. 900) { last if syscall(294, 0) < 0; $n++ }
print "instances\tdone\t$n\n";
PERL
# All at the same time: three who hold what they got until they are told to let go.
my @hold;
for my $ns (qw(mallory1 mallory2 mallory3)) {
    push @hold, $brood->post($ns => 'exec perl -', stdin => "\$| = 1;\n$take open my \$f, '>', 'taken'; close \$f; select undef, undef, undef, 0.02 until -e 'done';", timeout => 20);
}
for my $ns (qw(mallory1 mallory2 mallory3)) {
    ok(until_true(10, sub { -e "$brood->{fs_root}/$ns/taken" }), "$ns has taken what it gets");
}
my $got = attack($brood, alice => "call(inotify => 294, 0);\n$take");
done($got, 'inotify', 'alice gets an instance');
cmp_ok(said($got, 'instances'), '>', 50, 'and more (' . said($got, 'instances') . ')');
my $host = on_host('call(inotify => 294, 0);');
done($host, 'inotify', 'so does the host\'s root');
my $plain = `setpriv --reuid 1000 --regid 1000 --clear-groups perl -e 'print syscall(294, 0) >= 0 ? "yes" : "no"'`;
is($plain, 'yes', 'and uid 1000 of the host, whose number the runs have inside');
for my $i (0 .. 2) {
    my $ns = 'mallory' . ($i + 1);
    spew("$brood->{fs_root}/$ns/done");
    my ($n) = $brood->result($hold[$i], 5)->{stdout} =~ /instances\tdone\t(\d+)/;
    cmp_ok($n // 0, '>=', 100, 'control: ' . ($n // 'no') . " instances were held by $ns");
    cmp_ok($n // 999, '<', 900, 'until the kernel said no');
}
# Pipe pages: pipes made large by one tenant; the frontend's pipes for another must stay what they are.
my $conn = $brood->post(mallory1 => 'exec perl -', stdin => 'my @p; for (1 .. 400) { pipe my $r, my $w or last; syscall 72, fileno $w, 1031, 1 << 20; push @p, $r, $w } open my $f, ">", "pipes"; close $f; unlink "done"; select undef, undef, undef, 0.02 until -e "done";', timeout => 20);
ok(until_true(10, sub { -e "$brood->{fs_root}/mallory1/pipes" }), 'one tenant has 400 pipes of up to 1 MiB');
is($brood->sh(alice => 'perl -e "pipe my \$r, my \$w; print syscall(72, fileno \$w, 1032, 0)"')->{stdout}, 65536, 'another still gets pipes of 64 KiB');
is($brood->sh(alice => 'perl -e "print syscall(72, 1, 1032, 0)"')->{stdout}, 65536, 'and so is its stdout');
spew("$brood->{fs_root}/mallory1/done");
is($brood->result($conn, 5)->{http}, 200, 'the first one ends');

$brood->stop;
done_testing;
