# SPDX-License-Identifier: Apache-2.0
# Torture of engine, frontend and primordial in the start of a service, and in its stop, as t/956. The primordial is
# killed when it stops: nothing of that is its to do.
BEGIN { $ENV{B} = 'build/fault' }
use lib 't/lib';
use Brood;
use Brood::Torture;

my $t = Brood::Torture->new;
$t->torture_life(start => $_) for qw(engine frontend primordial);
$t->torture_life(stop => $_) for qw(engine frontend);
$t->finish;
