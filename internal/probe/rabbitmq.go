package probe

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"vedette/internal/uptime"
)

const (
	// rabbitFrame bounds one frame of a server, in bytes.
	rabbitFrame = 128 << 10
	// rabbitLimit bounds all that a server says, in bytes; RabbitMQ says less than a
	// thousand. The driver does not hold a table to the frame that it stands in, and
	// makes as many as seventy bytes of one.
	rabbitLimit = 32 << 10
	// rabbitBeat is how often the driver has to be heard, which sends twice as often. It
	// does not read on, and so sees no deadline, while nobody wants what it has read: an
	// answer that was not asked for. That a heartbeat cannot be sent ends it then.
	rabbitBeat = time.Second
)

// rabbitConfig is the config of a RabbitMQ monitor.
type rabbitConfig struct {
	Security string        `json:"security" enum:"none,tls" doc:"whether TLS is spoken"`
	Username string        `json:"username" required:"true" max:"1024" doc:"who logs in"`
	Password uptime.Secret `json:"password" doc:"of username"`
	Vhost    string        `json:"vhost" max:"255" doc:"the virtual host to open"`
	Queue    string        `json:"queue" max:"255" doc:"a queue that must be there; it is looked at, and neither made nor read"`
	TLS      tlsConfig     `json:"tls"`
	netConfig
}

// newRabbitMQ is the "rabbitmq" check type.
func newRabbitMQ() Type {
	return kind[rabbitConfig]{
		name:   "rabbitmq",
		about:  "Logs in to a RabbitMQ server, or another of AMQP 0-9-1. Up is a server that opens the virtual host; with `queue`, one that has it.",
		target: hostPort(5672),
		config: rabbitConfig{Security: "none", Vhost: "/", TLS: defaultTLS(), netConfig: defaultNet()},
		sources: merged(addressSource(), certSources(), map[string]source{
			"messages":  numberSource("messages", "the messages that are ready in `queue`", "", uptime.AssertFailed),
			"consumers": numberSource("consumers", "the consumers of `queue`", "", uptime.AssertFailed),
		}),
		examples: []uptime.CheckExample{{
			Title: "A queue that is worked off", Target: "mq.example:5671",
			Config:     `{"security":"tls","username":"probe","password":"secret","vhost":"shop","queue":"orders"}`,
			Assertions: `[{"source":"consumers","op":"ge","value":1},{"source":"messages","op":"lt","value":1000,"severity":"degraded"}]`,
		}},
		compile: func(b *builder, cfg *rabbitConfig) Check {
			b.network(cfg.netConfig)
			b.tls(cfg.TLS)
			if cfg.Queue == "" && (b.asserts("messages") || b.asserts("consumers")) {
				b.problems.Add("config.queue", "is missing; an assertion looks at it")
			}
			return b.check(cfg.do)
		},
	}
}

// do logs in and looks at the queue.
func (c *rabbitConfig) do(r *session) *fault {
	conn, f := r.connectUnder(c.Security)
	if f != nil {
		return f
	}
	handed := &rabbitConn{handOver: handOver{Conn: &boundedConn{Conn: conn, left: rabbitLimit}}}
	begin := time.Now()
	// The library would lift the session's deadline once it is logged in: it sees a
	// connection that has none.
	client, err := amqp.Open(struct{ io.ReadWriteCloser }{handed}, amqp.Config{
		SASL:  []amqp.Authentication{&amqp.PlainAuth{Username: c.Username, Password: c.Password.Reveal()}},
		Vhost: c.Vhost, FrameSize: rabbitFrame, ChannelMax: 1, Locale: "en_US", Properties: amqp.Table{"product": "Vedette"},
		Heartbeat: rabbitBeat,
	})
	r.phases.FirstByte = time.Since(begin)
	if err != nil {
		_ = conn.Close()
		_ = client.Close() // ends what reads and beats for it
		return rabbitFault(r, handed, err, "the login")
	}
	r.seen.Protocol = "AMQP 0-9-1"
	r.seen.Body = clean(fmt.Sprintf("%v %v", client.Properties["product"], client.Properties["version"]), 200)
	if c.Queue != "" {
		f = c.look(r, client, handed)
	}
	r.complete = f == nil && r.ctx.Err() == nil // a deadline that passes now would speak of the goodbye
	begin = time.Now()
	_ = conn.SetDeadline(earlier(r.deadline, begin.Add(farewell)))
	_ = client.Close()
	r.waited += time.Since(begin)
	return f
}

// look asks how full the queue is.
func (c *rabbitConfig) look(r *session, client *amqp.Connection, handed *rabbitConn) *fault {
	channel, err := client.Channel()
	if err != nil {
		return rabbitFault(r, handed, err, "a channel")
	}
	queue, err := channel.QueueDeclarePassive(c.Queue, false, false, false, false, nil)
	if err != nil {
		return rabbitFault(r, handed, err, "the queue "+clean(c.Queue, 100))
	}
	r.setNumber("messages", float64(queue.Messages))
	r.setNumber("consumers", float64(queue.Consumers))
	return nil
}

// rabbitConn notes that the driver agreed to a goodbye of the server. When that, or what
// it could not read, came before it was asked, it tells of both only that it is closed.
type rabbitConn struct {
	handOver
	agreed atomic.Bool
}

// Write implements io.Writer. The driver writes each frame by itself.
func (c *rabbitConn) Write(b []byte) (int, error) {
	if string(b) == "\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x33\xce" { // connection.close-ok
		c.agreed.Store(true)
	}
	return c.handOver.Write(b)
}

var errNotAMQP = errors.New("the answer is not AMQP")

// rabbitFault is talkFault for what the library makes of a refusal.
func rabbitFault(r *session, handed *rabbitConn, err error, what string) *fault {
	cause := handed.cause(err)
	if errors.Is(cause, errTooMuch) {
		return down(uptime.Protocol, "The server sent more than %d bytes where %s was due.", rabbitLimit, what)
	}
	// AMQP 0-9-1 §4.2.1 has no answer that refuses a login; a server just hangs up.
	// RabbitMQ does after 3 s of silence.
	if errors.Is(err, amqp.ErrCredentials) && (errors.Is(cause, io.EOF) || isReset(cause)) {
		return down(uptime.AuthFailed, "The server hung up at the login, which is how it refuses a user name or password.")
	}
	if errors.Is(err, amqp.ErrCredentials) && isTimeout(cause) {
		return down(uptime.Timeout, "The server did not answer the login within %s; RabbitMQ is silent for 3 s before it refuses one.", r.timeout)
	}
	if errors.Is(err, amqp.ErrSASL) {
		return down(uptime.AuthFailed, "The server takes no login by user name and password (PLAIN).")
	}
	refusal, ok := errors.AsType[*amqp.Error](err)
	if !ok || !refusal.Server {
		switch {
		case cause != err:
		case errors.Is(err, amqp.ErrClosed) && handed.agreed.Load():
			cause = io.EOF // the server ended it before the library was asked
		case errors.Is(err, amqp.ErrCredentials), errors.Is(err, amqp.ErrVhost), errors.Is(err, amqp.ErrClosed):
			cause = errNotAMQP // what the library guesses, and how it ends, when it cannot read the answer
		}
		return r.talkFault(cause, what)
	}
	reason := uptime.Protocol
	switch refusal.Code {
	case amqp.AccessRefused, amqp.NotAllowed:
		reason = uptime.AuthFailed
	case amqp.NotFound, amqp.ResourceLocked, amqp.ConnectionForced, amqp.ResourceError, amqp.InternalError, amqp.PreconditionFailed:
		reason = uptime.NotReady
	}
	return down(reason, "The server refused %s: %s (code %d).", what, clean(refusal.Reason, 200), refusal.Code)
}
