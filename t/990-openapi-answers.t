# SPDX-License-Identifier: Apache-2.0
# Whatever the service answered while the other tests ran is what etc/openapi.yaml says: make test has t/lib/Brood/Conn.pm
# record answers of each kind, errors and those around kills included, and here prism's check sees them all. By itself
# this test has two others run first. (t/590-openapi.t has prism in between, and its view of good requests.)
use lib 't/lib';
use Brood;
use File::Temp qw(tempdir);

my $tools = Brood->root . '/tools/openapi';
-d "$tools/node_modules/\@stoplight" or ($ENV{REQUIRE} ? BAIL_OUT('prism is required: tools/openapi/ready') : plan skip_all => 'no prism: tools/openapi/ready');
my ($dir, $all) = ($ENV{RECORD_ANSWERS}, 1);
my @most = glob(($dir // '/nonexistent') . '/*.jsonl');
if (@most < 40) {
    ($dir, $all) = (tempdir('brood-answers-XXXXXX', TMPDIR => 1, CLEANUP => 1), 0);
    local $ENV{RECORD_ANSWERS} = $dir;
    system("$^X -It/lib $_ >/dev/null 2>&1") == 0 or diag("$_ failed") for qw(t/400-execute.t t/545-runs.t);
}
my @said = qx(cd $tools && node answers.js ../../etc/openapi.yaml $dir 2>&1);
my ($answers, $seen, $known) = ($said[-1] // '') =~ m{^answers (\d+) operations (\d+)/(\d+)} or BAIL_OUT("answers.js: @said");
is(scalar(grep { /^violation/ } @said), 0, "$answers answers are as the document has them") or diag(grep { /^violation/ } @said);
cmp_ok($answers, '>', $all ? 1000 : 50, 'they are many');
is($seen, $all ? $known : $seen, "of $seen of $known operations") or diag(grep { /^unseen/ } @said);
done_testing;
