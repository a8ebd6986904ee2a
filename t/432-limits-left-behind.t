# SPDX-License-Identifier: Apache-2.0
# A run that never came to its command leaves none of its limits to the next run of its namespace.
use lib 't/lib';
use Brood;

my $brood = Brood->start;
$brood->sh(alice => 'true');
my $failed = $brood->sh(alice => 'true', cwd => '/work/absent', limits => {cpu_ms => 60});
is($failed->{http}, 400, 'a run with a limit of processor time is refused by its cwd');
my $next = $brood->sh(alice => 'sleep 0.5; echo done');
is_deeply([@$next{qw(reason stdout)}], ['exit', "done\n"], 'the next one, which has no such limit, ends by itself');
$brood->stop;
done_testing;
