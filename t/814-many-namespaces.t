# SPDX-License-Identifier: Apache-2.0
# Where there are many namespaces, whether there is one takes long to find out. Who asks for it all the time delays
# nobody's runs; and what a client has made or removed itself is known at once.
use lib 't/lib';
use Brood;
use Time::HiRes qw(time);

my $brood = Brood->start('http-threads' => 1);
$brood->sh(bob => 'true');
mkdir "$brood->{fs_root}/n$_" for 1 .. 20_000;

sub ms_of_a_run { return median(map { my $t = time; $brood->sh(bob => 'true'); (time - $t) * 1000 } 1 .. 5) }
sub status { return ($brood->request(@_) // {status => 0})->{status} }

my $alone = ms_of_a_run();
my @askers = map { $brood->connect } 1 .. 16;
$_->put(Brood::Conn->request(GET => '/v1/namespaces/absent/files/x') x 100) for @askers[0 .. 7];
$_->put(Brood::Conn->request(GET => '/v1/namespaces?limit=1') x 100) for @askers[8 .. 15];
my $beside = ms_of_a_run();
cmp_ok($beside, '<', $alone + 60, sprintf('a run takes %.1f ms, beside who asks for namespaces %.1f', $alone, $beside));
is($_->get(20)->{status}, 404, 'which is not there') for $askers[0];
$_->close for @askers;

my @wrong;
for my $i (1 .. 20) {
    push @wrong, "$i: there before" if status(GET => "/v1/namespaces/x$i/files/") != 404;
    $brood->sh("x$i", 'true');
    push @wrong, "$i: not there" if status(GET => "/v1/namespaces/x$i/files/") != 200;
    push @wrong, "$i: not listed" if $brood->request(GET => "/v1/namespaces?after=x" . ($i > 1 ? $i - 1 : 0))->{body} !~ /"x$i"/ && $i < 10;
    push @wrong, "$i: not removed" # 409 while what answered last is still on its way out
      unless until_true(5, sub { status(DELETE => "/v1/namespaces/x$i") == 200 });
    push @wrong, "$i: there still" if status(GET => "/v1/namespaces/x$i/files/") != 404;
}
is_deeply(\@wrong, [], 'one that is made or removed is known at once');
$brood->stop;
done_testing;
