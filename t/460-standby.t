# SPDX-License-Identifier: Apache-2.0
# A run that comes at the very moment at which an idle standby is retired is neither lost nor run twice.
use lib 't/lib';
use Brood;
use Time::HiRes qw(sleep time);

require_layer('root', 'cgroup');
my $brood = Brood->start('namespaces-standby-idle-ms' => 5);
my ($count, @wrong) = (0);
my $end = time + 8;
while (time < $end) {
    sleep 0.004 + ($count % 40) * 0.00005; # sweeps over the moment; what is waited for is the answer
    my $r = $brood->sh(alice => 'echo x >> runs; echo hi');
    $count++;
    push @wrong, "$count: $r->{http} " . ($r->{reason} // '') if $r->{stdout} ne "hi\n";
}
is("@wrong", '', "$count runs around the retirement of their standby are all answered");
is($brood->sh(alice => 'wc -l < runs')->{stdout}, "$count\n", 'and each has run once');
$brood->stop;
done_testing();
