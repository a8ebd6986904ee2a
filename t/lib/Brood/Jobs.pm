# SPDX-License-Identifier: Apache-2.0
# Brood::Jobs - jobs from outside, for t/61*.t and t/97*.t.
package Brood::Jobs;
use strict;
use warnings;
use Brood;
use Exporter qw(import);
our @EXPORT = qw(submit status ended output job_list cancel);

# POST /submit of bash code (or of what %more says): its JSON with the status as {http}.
sub submit {
    my ($brood, $code, %more) = @_;
    my %opt = map { $_ => delete $more{$_} } grep { exists $more{$_} } qw(headers via);
    return _ask($brood, POST => '/submit', body => {language => 'bash', code => $code, %more}, %opt);
}

sub status {
    my ($brood, $id, %opt) = @_;
    my $wait = delete $opt{wait};
    return _ask($brood, GET => "/status?id=$id" . (defined $wait ? "&wait=$wait" : ''), %opt);
}

# Its status once it has ended, however long that takes (60 s at most).
sub ended {
    my ($brood, $id, %opt) = @_;
    my $s;
    for (1 .. 4) {
        $s = status($brood, $id, wait => 20, timeout => 40, %opt);
        last if ($s->{status} // '') !~ /^(?:queued|running)$/;
    }
    return $s;
}

# What it wrote, by the signed URL of /result.
sub output {
    my ($brood, $id, %opt) = @_;
    my $r = _ask($brood, GET => "/result?id=$id", %opt);
    return undef unless $r->{url};
    my $res = $brood->request(GET => $r->{url} =~ s{^https?://[^/]+}{}r);
    return $res->{status} == 200 ? $res->{body} : undef;
}

sub job_list {
    my ($brood, $query, %opt) = @_;
    return _ask($brood, GET => '/v1/jobs' . ($query // ''), %opt);
}

sub cancel {
    my ($brood, $id, %opt) = @_;
    return _ask($brood, DELETE => "/v1/jobs/$id", %opt);
}

sub _ask {
    my ($brood, $method, $path, %opt) = @_;
    my $res = $brood->request($method, $path, timeout => 40, %opt) // {status => 0, headers => {}};
    return {http => $res->{status}, headers => $res->{headers}, ref $res->{json} eq 'HASH' ? %{$res->{json}} : ()};
}

1;
