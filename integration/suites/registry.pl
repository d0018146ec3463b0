# What containerd needs of a registry to look up an image by its digest, when it has the image: for each request on
# this port of 127.0.0.1 the manifest in this file.
use strict;
use IO::Socket::INET;

my ($port, $file, $digest) = @ARGV;
my $manifest = do { local (@ARGV, $/) = $file; <> };
my $server = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => $port, Listen => 5, ReuseAddr => 1)
    or die "port $port: $!";
while (my $client = $server->accept) {
    my ($method) = split / /, scalar <$client>;
    while (<$client>) { last if /^\r?$/ }
    print $client "HTTP/1.1 200 OK\r\nConnection: close\r\nDocker-Content-Digest: $digest\r\n",
        "Content-Type: application/vnd.oci.image.manifest.v1+json\r\nContent-Length: ", length $manifest, "\r\n\r\n";
    print $client $manifest if $method eq "GET";
    close $client;
}
