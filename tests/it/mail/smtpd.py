"""A mail server for tests: keeps each mail as a JSON file, prints its port.

smtpd.py starttls|tls|plain FOLDER [CERTIFICATE KEY]
With TLS it wants the login backup / hunter2. It refuses refused@ for good and later@ until FOLDER/now is there.
"""

import asyncio, email, email.policy, json, os, ssl, sys
from aiosmtpd.smtp import SMTP, AuthResult

mode, folder = sys.argv[1:3]


class Handler:
    count = 0

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("refused@"):
            return "550 no such user"
        if address.startswith("later@") and not os.path.exists(folder + "/now"):
            return "451 come back later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        kept = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "user": session.auth_data.decode() if session.auth_data else None,
            "subject": str(mail["Subject"]),
            "headers": {key: str(value) for key, value in mail.items()},
            "body": mail.get_content(),
        }
        name = "%s/%04d" % (folder, Handler.count)
        Handler.count += 1
        with open(name + ".part", "w") as file:
            json.dump(kept, file)
        os.rename(name + ".part", name + ".json")
        return "250 kept as %04d" % (Handler.count - 1)


def authenticate(server, session, envelope, mechanism, data):
    if (data.login, data.password) == (b"backup", b"hunter2"):
        return AuthResult(success=True, auth_data=data.login)
    return AuthResult(success=False, handled=False)


async def main():
    context, options = None, {}
    if mode != "plain":
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(sys.argv[3], sys.argv[4])
        options = {"auth_required": True, "authenticator": authenticate}
    if mode == "starttls":
        options.update(tls_context=context, require_starttls=True)
    if mode == "tls":
        options.update(auth_require_tls=False)
    make = lambda: SMTP(Handler(), hostname="localhost", **options)
    server = await asyncio.get_running_loop().create_server(
        make, "localhost", int(os.environ.get("PORT", 0)), ssl=context if mode == "tls" else None, family=2
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
