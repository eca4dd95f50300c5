"""Fetch URLs at the same time: python examples/http_fetch.py URL..."""

import asyncio
import sys

import reactor
from protocols.http import AsyncClient, HTTPError


async def fetch(client: AsyncClient, url: str) -> bool:
    """Stream one body, say what came, and return whether all went well."""
    size = 0
    try:
        async with client.stream("GET", url) as response:
            async for piece in response.aiter_bytes():
                size += len(piece)
            response.raise_for_status()
    except (HTTPError, OSError) as error:
        print(f"{url}: {error}", file=sys.stderr)
        return False
    print(f"{url}: {response.status_code}, {size} bytes")
    return True


async def main(urls: list[str]) -> int:
    """Fetch all *urls* over the connections of one client."""
    async with AsyncClient(timeout=30) as client:
        results = await asyncio.gather(*[fetch(client, url) for url in urls])
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(reactor.run(main(sys.argv[1:])))
