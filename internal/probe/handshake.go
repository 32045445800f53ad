package probe

import (
	"crypto/tls"

	"vedette/internal/uptime"
)

// handshakeConfig is config of type tls.
type handshakeConfig struct {
	starttlsConfig
	TLS tlsConfig `json:"tls"`
	netConfig
}

// newHandshake is the type for certificates: a handshake, and nothing after it.
func newHandshake() Type {
	return kind[handshakeConfig]{
		name: "tls",
		about: "Up means that the TLS handshake succeeds: the chain is trusted, valid and for this name, and the version is safe. " +
			"With starttls_protocol the server is first asked to go on in TLS.",
		target: hostPort(443),
		config: handshakeConfig{TLS: defaultTLS(), netConfig: defaultNet()},
		sources: merged(addressSource(), certSources(), map[string]source{
			"tls_version": textSource("tls_version", "the version that was agreed on, such as `TLS 1.3`", uptime.TLSVersion),
			"cipher":      textSource("cipher", "the cipher suite that was agreed on, such as `TLS_AES_128_GCM_SHA256`", uptime.AssertFailed),
		}),
		examples: []uptime.CheckExample{
			{
				Title: "A certificate stays valid for three weeks", Target: "example.com",
				Assertions: `[{"source": "cert_days", "op": "ge", "value": 21}, {"source": "tls_version", "op": "eq", "value": "TLS 1.3"}]`,
			},
			{Title: "A mail server's certificate", Target: "mx.example.com:25", Config: `{"starttls_protocol": "smtp"}`},
		},
		compile: func(b *builder, cfg *handshakeConfig) Check {
			b.network(cfg.netConfig)
			b.tls(cfg.TLS)
			return b.check(func(r *session) *fault { return handshake(r, cfg.StarttlsProtocol) })
		},
	}
}

func handshake(r *session, protocol string) *fault {
	c, f := r.converse("none")
	if f != nil {
		return f
	}
	if protocol == "" {
		f = c.secure()
	} else {
		f = c.starttls(protocol)
	}
	if f != nil {
		return f
	}
	state := c.conn.(*tls.Conn).ConnectionState()
	r.seen.Protocol = tls.VersionName(state.Version)
	r.setText("tls_version", r.seen.Protocol)
	r.setText("cipher", tls.CipherSuiteName(state.CipherSuite))
	if r.tlsTrace.certAsked || r.tlsTrace.certSent {
		return r.watch(c)
	}
	return nil
}
