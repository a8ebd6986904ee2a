# SPDX-License-Identifier: Apache-2.0
# A reader of text/event-stream that stalls, and goes on within the write deadline, has every byte; so has one that hangs up again
# and again and comes back with Last-Event-ID, of stream.keep "all".
use lib 't/lib';
use Brood;
use Brood::Events;
use Digest::SHA qw(sha256_hex);

use constant {BYTES => 10_000_000, CUT_AFTER => 1_500_000};

my $brood = Brood->start('languages-dir' => '', 'http-write-timeout' => '60s', 'streams-ring-kb' => 512, 'v1-runs-timeout-max' => '100s', 'v1-runs-timeout-default' => '100s',
    'v1-runs-cpu-max' => '100s', 'v1-runs-cpu-default' => '100s');
my $want = sha256_hex(join '', map { sprintf "%09d\n", $_ } 1 .. BYTES / 10);
my $write = 'seq -f %09.0f 1 ' . BYTES / 10;

sub start {
    my ($cmd) = @_;
    my $s = Brood::Events->open($brood, POST => '/v1/runs', body => {namespace_id => 'alice', cmd => $cmd, detach => \1, stream => {keep => 'all'}});
    return ($s, {text => '', last => 0, event => '', in_order => 1});
}
sub again { my ($h) = @_; return Brood::Events->open($brood, GET => "/v1/runs/$h->{id}/events", last => $h->{last}) }

# Hears what comes, up to the end, or to so many bytes of output in all. (Not with next(): ten megabytes of JSON take Perl long.)
sub hear {
    my ($s, $h, $max) = @_;
    do {
        while ($s->{text} =~ s/\A(?:retry: \d+\n\n|: [^\n]*\n\n)*id: (\d+)\nevent: (\w+)\ndata: ([^\n]*)\n\n//) {
            my ($id, $data) = ($1, $3);
            $h->{event} = $2;
            $h->{in_order} &&= $id == $h->{last} + 1;
            $h->{last} = $id;
            $h->{id} //= $1 if $data =~ /"id":"(run_\w+)"/;
            $h->{text} .= $1 =~ s/\\n/\n/gr if $h->{event} eq 'stdout' && $data =~ /\A\{"text":"([^"]*)"\}\z/;
            return if defined $max && length $h->{text} >= $max;
        }
    } while $s->_chunk(time + 30);
}

subtest 'it stalls' => sub {
    # As long as it is read it goes on, and says how far it is.
    my ($s, $h) = start("$write | for ((i = 1; i <= 100; i++)); do head -c 100000; echo \$i >count; done");
    hear($s, $h, 1);
    my $count = sub { my $f = $brood->find('count'); defined $f ? slurp($f) || 0 : 0 };
    my ($last, $again) = (-1, 0);
    ok(until_true(20, sub { my $now = $count->(); my $same = $now && $now == $last; $last = $now; select undef, undef, undef, 0.3; $same }), 'nobody reads: the run waits');
    cmp_ok($last, '<', 100, "with $last parts of 100 written");
    hear($s, $h);
    hear(again($h), $h) while $h->{event} ne 'result' && $again++ < 200; # a full ring sends its reader away, to say what it has
    is($h->{event}, 'result', 'it goes on, up to the result');
    ok($h->{in_order}, 'no event is missing, none comes twice');
    is(sha256_hex($h->{text}), $want, 'every byte is there');
};

subtest 'it hangs up' => sub {
    my ($s, $h) = start($write);
    my $cuts = 0;
    while (hear($s, $h, length($h->{text}) + CUT_AFTER), $h->{event} ne 'result' && $cuts++ < 200) {
        $s->close;
        $s = again($h);
    }
    cmp_ok($cuts, '>=', 6, "over $cuts other connections");
    ok($h->{in_order}, 'no event is missing, none comes twice');
    is(sha256_hex($h->{text}), $want, 'every byte is there');
};
$brood->stop;
done_testing;
