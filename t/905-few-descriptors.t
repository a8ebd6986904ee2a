# SPDX-License-Identifier: Apache-2.0
# A service that was started with few descriptors, and large requests, which reach the engine as a memfd: who
# finds no room is told so; nobody else loses a request, and the frontend keeps its connection.
use lib 't/lib';
use Brood;

BEGIN {
    exec 'prlimit', '--nofile=260:260', $^X, '-It/lib', $0 or die "prlimit: $!" unless $ENV{FEW_DESCRIPTORS}++;
}

my $brood = Brood->start('namespaces-spares' => 1);
my $filler = 'x' x 60_000;
is($brood->sh(alice => ": $filler; echo hi")->{stdout}, "hi\n", 'a large command');
my ($frontend) = $brood->pids('frontend');
my %count;
for my $round (1 .. 3) {
    my @conns = map { $brood->post("few-$round-$_" => ": $filler; sleep 0.3; echo $_") } 1 .. 60;
    my @results = map { $brood->result($_, 20) } @conns;
    $count{$_->{http}}++ for @results;
    is(scalar(grep { $_->{http} == 200 && $_->{stdout} !~ /^\d+$/ } @results), 0, "round $round: who is answered is answered rightly");
}
my $text = join ', ', map { "$count{$_} x $_" } sort keys %count;
is(scalar(grep { !/^(?:200|503|500)$/ } keys %count), 0, "each request is done or refused: $text");
cmp_ok($count{200} // 0, '>', 0, 'some are done');
cmp_ok(($count{503} // 0) + ($count{500} // 0), '>', 0, 'control: descriptors were short');
unlike(slurp($brood->{log}), qr/client_dropped/, 'the frontend was never dropped');
is(($brood->pids('frontend'))[0], $frontend, 'nor did it end');
# Starts that failed in a row are put off by up to 5 s.
ok(until_true(30, sub { $brood->sh(alice => 'echo hi')->{stdout} eq "hi\n" }), 'afterwards all is well');

# More namespaces than there are descriptors for, none of them busy: idle ones make room, as they do for the limit.
my $late = grep { my $n = $_; !until_true(10, sub { $brood->sh("idle-$n" => "echo $n")->{stdout} eq "$n\n" }) } 1 .. 80;
is($late, 0, 'namespaces that are idle keep no descriptors from others');
$brood->stop;
done_testing;
