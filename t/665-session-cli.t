# SPDX-License-Identifier: Apache-2.0
# brood exec --session: the CLI's calls of a session.
use lib 't/lib';
use Brood;

my $brood = Brood->start;

sub cli {
    my (@args) = @_;
    my $words = join ' ', map { quotemeta } @args;
    my $text = `${\Brood::build()}/brood exec --socket $brood->{socket} $words 2>&1`;
    return ($? >> 8, $text);
}

is_deeply([cli(qw(-n alice --session s --), 'x=1; cd /tmp; echo set')], [0, "set\n"], 'a first call');
is_deeply([cli(qw(-n alice -S s --), 'echo $x; pwd; (exit 3)')], [3, "1\n/tmp\n"], 'a second');
is_deeply([cli(qw(-n alice -S s --), 'sleep 60 & echo on')], [0, "on\n"], 'its background is not waited for');
my ($status, $text) = cli(qw(-n alice -S s --), q{head -c 3000000 /dev/zero | tr '\0' x});
is_deeply([$status, length $text], [0, 3_000_000], 'all of much output');
is($brood->sh(alice => 'echo $x', session => 's')->{stdout}, "1\n", 'it is the session that HTTP has');
is_deeply([cli(qw(-n alice -S s --), 'exit 7')], [7, ''], 'its end');
is_deeply([cli(qw(-n alice -S s --), 'echo "[$x]"')], [0, "[]\n"], 'and another');
is_deeply([cli(qw(-n alice -S s --timeout 0.3 --), 'sleep 60')]->[0], 124, 'a deadline');
is_deeply([cli(qw(-n alice -S s --), 'echo on')], [0, "on\n"], 'after it');
is((cli(qw(-n alice -S a/b --), 'true'))[0], 125, 'a bad name');
$brood->stop;
done_testing;
