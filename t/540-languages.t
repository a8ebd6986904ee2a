# SPDX-License-Identifier: Apache-2.0
# Each interpreted language from outside (t/lib/Brood/Languages.pm says what is asked of it).
use lib 't/lib';
use Brood;
use Brood::Languages;

Brood::Languages::check(qw(bash python node ruby php perl));
