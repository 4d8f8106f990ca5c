package threadbus

import (
	"crypto/tls"
	"crypto/x509"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// TLSFiles is an option of Connect: PEM files for connections with TLS, which Connect reads once. They
// are not used for plaintext.
type TLSFiles struct {
	grpc.EmptyDialOption
	CAFile     string // the certificates to trust; empty = the system's
	ClientCert string // this client's certificate, if the server requires one
	ClientKey  string // the key of ClientCert
}

// credentials returns the transport credentials, with or without TLS.
func (f TLSFiles) credentials(secure bool) (credentials.TransportCredentials, error) {
	if (f.ClientCert == "") != (f.ClientKey == "") {
		return nil, misused("ClientCert and ClientKey are given together, or not at all")
	}
	if !secure {
		return insecure.NewCredentials(), nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.CAFile != "" {
		text, err := os.ReadFile(f.CAFile)
		if err != nil {
			return nil, misused("CAFile: %v", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, misused("CAFile: %s has no certificate in PEM", f.CAFile)
		}
	}
	if f.ClientCert != "" {
		pair, err := tls.LoadX509KeyPair(f.ClientCert, f.ClientKey)
		if err != nil {
			return nil, misused("ClientCert %s, ClientKey %s: %v", f.ClientCert, f.ClientKey, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return credentials.NewTLS(config), nil
}
