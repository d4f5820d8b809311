"""Every decision of the platform, pure: no clock, no random, no IO, no logging, no asyncio. One file a decision."""
