# SPDX-License-Identifier: Apache-2.0
# Torture of an activation that finds a spare, and of the refilling of the pool behind it, as t/950-torture.t.
BEGIN { $ENV{B} = 'build/fault' }
use lib 't/lib';
use Brood;
use Brood::Torture;

my $t = Brood::Torture->new('namespaces-spares' => 1, 'namespaces-active-max' => 4);
for my $role (split m{,}, $ENV{TORTURE_ROLES} // q(priv,primordial,zygote)) {
    $t->torture('two activations', $role, sub { return Brood::Torture::all_of(map { $t->operation('activation')->() } 1, 2) });
}
$t->finish;
