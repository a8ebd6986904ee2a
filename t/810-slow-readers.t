# SPDX-License-Identifier: Apache-2.0
# Who asks for much and reads nothing takes memory of the one process that answers everybody: all that waits for its
# readers counts together, whichever path it came by, and beyond that the next one hears 503.
use lib 't/lib';
use Brood;

my $brood = Brood->start('http-threads' => 1);
sub frontend_kb { my ($f) = grep { $_->{role} eq 'frontend' } $brood->processes; return $f->{rss_kb} }

# 2 MiB of control characters in each stream: six times as much in JSON.
my $run = $brood->request(POST => '/v1/runs', body => {cmd => 'head -c 2097152 /dev/zero | tr "\0" "\1" | tee /dev/stderr',
    limits => {max_output_bytes => 2097152}}, timeout => 60);
is($run->{status}, 200, 'a run with a large answer');
ok(length $run->{body} > 20 << 20, 'which is 24 MiB long');
my $id = $run->{json}{id};
$run = undef;

my $before = frontend_kb();
my @readers = map { my $c = $brood->connect; $c->put(Brood::Conn->request(GET => "/v1/runs/$id")); $c } 1 .. 40;
ok(until_true(20, sub { @readers == grep { $_->readable } @readers }), 'each of 40 who ask for it at once is answered');
my $more_mb = (frontend_kb() - $before) >> 10;
cmp_ok($more_mb, '<', 400, "and together they hold $more_mb MiB, not a gigabyte");
my %told;
for my $c (@readers) {
    recv $c->{sock}, my $head, 12, 2; # MSG_PEEK
    $told{substr $head // '', 9, 3}++;
}
ok(($told{503} // 0) > 0 && ($told{200} // 0) > 0, 'some of them 503') or diag(explain(\%told));
is($brood->sh(bob => 'echo hi')->{stdout}, "hi\n", 'another client is served meanwhile');
$_->close for @readers;
ok(until_true(20, sub { ($brood->request(GET => "/v1/runs/$id", timeout => 60) // {status => 0})->{status} == 200 }),
    'when they are gone, the next one has it');

# A page of a listing: names that are long and need escapes.
my $made = $brood->sh(alice => q{mkdir d; cd d; n=$(head -c 120 /dev/zero | tr "\0" "\1"); for ((i = 0; i < 1000; i++)); do : >"$i$n"; done});
is($made->{exit_code}, 0, 'a directory whose list is long');
$before = frontend_kb();
my $conns = 250;
@readers = ();
for (1 .. $conns) { # one after the other, as the namespace works on them
    my $c = $brood->connect;
    $c->put(Brood::Conn->request(GET => '/v1/namespaces/alice/files/d/'));
    push @readers, $c;
    last unless until_true(20, sub { $c->readable });
}
is(scalar @readers, $conns, 'as many lists, which nobody reads, are answered');
$more_mb = (frontend_kb() - $before) >> 10;
cmp_ok($more_mb, '<', 200, "and hold $more_mb MiB");
$_->close for @readers;
$brood->stop;
done_testing;
