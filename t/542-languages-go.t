# SPDX-License-Identifier: Apache-2.0
# Compiled languages from outside: go (t/lib/Brood/Languages.pm says what is asked of them).
use lib 't/lib';
use Brood;
use Brood::Languages;

Brood::Languages::check(qw(go));
