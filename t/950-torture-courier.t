# SPDX-License-Identifier: Apache-2.0
# Torture of webhooks - the courier, its start by priv, the deliverer in the frontend - as t/950-torture.t. Besides: what
# is to be told of an accepted job is told, signed, under one id, however often; and no address of the service's own
# machine is connected to because it could not be looked at.
BEGIN { $ENV{B} = 'build/fault' }
use lib 't/lib';
use Brood;
use Brood::Receivers;
use Brood::Torture;
use Digest::SHA qw(hmac_sha256_hex);
use Mojo::JSON qw(decode_json);

Brood::require_layer(qw(ip nsenter python3));
my $world = Brood::Receivers->new({'a.test' => ['9.1.1.1'], 'own.test' => ['9.0.0.1']});
my $t;
my $n = 0;

# A job that is accepted is told to a.test. To `hosts`, which are the service's own, it never is.
sub told {
    my ($before, @hosts) = @_;
    my $path = '/ok/told-' . ++$n;
    my ($errors, %id) = (0);
    $before->() if $before;
    for my $host ('a.test', @hosts) {
        my $r;
        until_true(20, sub { # the frontend may be at its start
            $r = $t->ask(POST => '/submit', body => {language => 'bash', code => 'echo told', callback_url => "http://$host$path"}) // return 1;
            return 1 if $r->{status} == 202 || $t->brood->exited;
            $errors++;
            return !$t->is_error($r);
        });
        return 'submit: no answer' if !$r;
        return 0 if $t->brood->exited;
        $id{$host} = ($r->{json} // {})->{executionId} or return "submit: $r->{status} $r->{body}";
    }
    my $deliveries = sub {
        my $r = $t->ask(GET => "/v1/jobs/$id{$_[0]}/deliveries") // return [];
        $errors++ if $r->{status} != 200 && $r->{status} != 404;
        return ($r->{json} // {})->{deliveries} // [];
    };
    my $d;
    until_true(60, sub { $d = $deliveries->('a.test')->[0]; return $t->brood->exited || $d && $d->{status} ne 'pending' });
    return 0 if $t->brood->exited;
    return 'it is not told: ' . ($d ? "$d->{status} " . join ', ', map { "$_->{status} $_->{error}" } @{$d->{attempts}} : 'there is no delivery') if !$d || $d->{status} ne 'delivered';
    for my $host (@hosts) {
        my $own;
        until_true(60, sub { $own = $deliveries->($host)->[0]; return $t->brood->exited || $own && @{$own->{attempts}} });
        return 'its own machine: ' . ($own ? $own->{status} : 'no delivery') if !$own || $own->{status} eq 'delivered';
        $errors++ if $own->{attempts}[0]{error} !~ /address of this machine/;
    }
    my @came = $world->requests($path);
    return 'nobody heard it' if !@came;
    return 'other ids' if grep { $_->{headers}{'brood-delivery'} ne $d->{id} } @came;
    chomp(my $secret = slurp("$t->{brood}{fs_root}.state/webhook.key"));
    return 'not signed so' if grep { $_->{headers}{'brood-signature'} ne 'v1=' . hmac_sha256_hex("$_->{headers}{'brood-timestamp'}.$_->{body}", $secret) } @came;
    my $job = decode_json($came[0]{body});
    return "told of $job->{executionId}, $job->{status}" if $job->{executionId} ne $id{'a.test'} || $job->{status} !~ /^(?:completed|failed)$/;
    $errors++ if @{$d->{attempts}} > 1 || @came > 1 || $job->{status} ne 'completed';
    return $errors ? 0 : 1;
}

# priv starts another courier at once, when this one is older than a second.
sub other_courier {
    my @old = $t->brood->pids('courier');
    kill KILL => @old;
    until_true(20, sub { my @now = $t->brood->pids('courier'); return $t->brood->exited || @now && !grep { my $pid = $_; grep { $_ == $pid } @old } @now });
}

$t = Brood::Torture->new(seconds => 1, wrap => [$world->inside], 'languages-dir' => '', 'webhooks-allow' => 'http://a.test,http://own.test:8080', 'webhooks-allow-private' => '9.9.9.0/24',
    'webhooks-delay-first-ms' => 100, 'webhooks-delay-max-s' => 1, 'webhooks-attempts' => 4, 'webhooks-timeout-ms' => 2000, 'webhooks-connect-timeout-ms' => 1000);
$t->torture('told', 'courier', sub { told(undef, 'own.test:8080') });
$t->torture('told', 'frontend', sub { told(undef, 'own.test:8080') }, only => qr/webhooks|packet/); # the rest: t/950-torture-jobs.t
$t->torture('told by another courier', 'courier', sub { told(\&other_courier) }, only => qr/confine/, surveys => 1);
$t->torture('told by another courier', 'priv', sub { told(\&other_courier) }, only => qr/spawn|courier/, surveys => 1);
$t->finish(sub { is_deeply([$world->canary], [], 'nobody came to the service itself') });
