"""What WEkEO allows an account: how many orders in how much time."""

from __future__ import annotations

#: Orders that the service takes in one window of the quota.
ORDERS_AN_HOUR = 100
#: For how long the service counts an order.
QUOTA_WINDOW_SECONDS = 3600.0
