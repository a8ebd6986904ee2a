# SPDX-License-Identifier: Apache-2.0
# What a tenant may build, the removal of its namespace can take away: deep, closed, linked.
use lib 't/lib';
use Brood;

require_layer('root', 'cgroup');
my $brood = Brood->start;
mkdir "$brood->{dir}/outside" or die $!;
chmod 0755, "$brood->{dir}/outside";
chown 1000, 1000, "$brood->{dir}/outside";
my $r = $brood->sh(deep => "ln -s $brood->{dir}/outside link; mkdir closed; touch closed/file; ln -s $brood->{dir}/outside closed/link; chmod 0 closed; "
      . 'mkdir .hoisted-1 .hoisted-2; touch .hoisted-3; mkdir wide; touch wide/{1..500}; perl -e "for (1 .. 3000) { mkdir q(d) and chdir q(d) or die }; print qq(3000\n)"', timeout => 60);
is($r->{stdout}, "3000\n", 'a tree of 3000 levels');
$brood->sh(other => 'mkdir a; touch a/b');
system(Brood::build() . '/brood', 'ns', 'rm', '--socket', "$brood->{dir}/brood.sock", 'deep', 'other');
is($?, 0, 'both namespaces are removed');
ok(until_true(20, sub { !grep { $_ ne '.lock' } $brood->volumes }), 'nothing of them is left on disk') or diag(join ' ', $brood->volumes);
is((stat "$brood->{dir}/outside")[2] & 07777, 0755, 'what a link pointed to is as it was');
$brood->stop;
done_testing();
